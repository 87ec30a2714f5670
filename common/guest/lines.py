"""Changed lines of pages, side by side: what travels instead of whole pages.

A page's mask has a bit for each of its 64-byte lines; lines stand in the order of pages, and within
a page from the lowest bit on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pageferry.common.guest.jit import inlined, kernel
from pageferry.common.guest.native import copy_line


@inlined
def _lowest(mask: np.uint64) -> int:
    """The number of the lowest bit that is set; the mask is not zero."""
    bit = 0
    while mask & np.uint64(0xFF) == np.uint64(0):
        mask >>= np.uint64(8)
        bit += 8
    while mask & np.uint64(1) == np.uint64(0):
        mask >>= np.uint64(1)
        bit += 1
    return bit


@kernel
def gather(
    words: NDArray[np.uint64],
    pages: NDArray[np.int64],
    masks: NDArray[np.uint64],
    out: NDArray[np.uint64],
) -> int:
    """Copy these lines of memory (uint64[512 * n_pages]) to `out`; returns the lines.

    pages, masks: one each; out: 8 words a line. While the guest runs a line may be torn: it is in
    the dirty log then, and goes again.
    """
    line = 0
    for i in range(len(pages)):
        mask = masks[i]
        while mask != np.uint64(0):
            copy_line(out, line << 3, words, (pages[i] << 9) + (_lowest(mask) << 3))
            mask &= mask - np.uint64(1)
            line += 1
    return line


@kernel
def scatter(
    words: NDArray[np.uint64],
    pages: NDArray[np.int64],
    masks: NDArray[np.uint64],
    data: NDArray[np.uint64],
) -> int:
    """The way back: put the lines where they belong. Returns the lines."""
    line = 0
    for i in range(len(pages)):
        mask = masks[i]
        while mask != np.uint64(0):
            copy_line(words, (pages[i] << 9) + (_lowest(mask) << 3), data, line << 3)
            mask &= mask - np.uint64(1)
            line += 1
    return line
