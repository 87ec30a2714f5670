"""Changed lines of pages, side by side: what travels instead of whole pages.

A page's mask has a bit for each of its 64-byte lines; lines are in the order of pages, and within a
page from the lowest bit on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pageferry.common.guest.jit import inlined, kernel
from pageferry.common.guest.native import copy_line


@inlined
def _lowest(mask: np.uint64) -> int:
    """Return the number of the lowest bit that is set; the mask must not be zero."""
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
    """Copy lines of memory to a buffer, side by side.

    While the guest runs a line may be torn: it is in the dirty log then, and is sent again.

    Args:
        words: uint64[512 * n_pages], guest memory.
        pages: int64[n], page numbers.
        masks: uint64[n], which lines of each page.
        out: uint64, overwritten from its start: 8 words a line, with room for all of them.

    Returns:
        How many lines were copied.
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
    """Copy lines from a buffer to their places in memory: the opposite of `gather`.

    Args:
        words: uint64[512 * n_pages], guest memory; changed.
        pages: int64[n], page numbers; all must be the guest's.
        masks: uint64[n], which lines of each page.
        data: uint64, 8 words a line, as `gather` laid them out.

    Returns:
        How many lines were copied.
    """
    line = 0
    for i in range(len(pages)):
        mask = masks[i]
        while mask != np.uint64(0):
            copy_line(words, (pages[i] << 9) + (_lowest(mask) << 3), data, line << 3)
            mask &= mask - np.uint64(1)
            line += 1
    return line
