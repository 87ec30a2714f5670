"""Line masks of whole guests, looked at without temporaries.

A fresh page of memory costs several microseconds at its first touch, so that a temporary array as
long as the guest has pages would cost more than the work on it: buffers are made once, touched, and
used again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.guest.jit import kernel


def new_masks(n_pages: int) -> NDArray[np.uint64]:
    """uint64[n_pages], zero, and already in memory."""
    masks = np.empty(n_pages, np.uint64)
    masks.fill(0)  # np.zeros would leave the first touch to whoever writes first
    return masks


@kernel
def _popcount(x: np.uint64) -> int:
    count = 0
    while x != np.uint64(0):
        x &= x - np.uint64(1)
        count += 1
    return count


@kernel
def count_stale(stale: NDArray[np.uint64], cached: NDArray[np.uint64]) -> tuple[int, int]:
    """(pages in either, lines in `cached`). Both uint64[n_pages]; `cached` is cleared."""
    pages = lines = 0
    for page in range(len(stale)):
        if cached[page] != np.uint64(0):
            lines += _popcount(cached[page])
            pages += 1
            cached[page] = np.uint64(0)
        elif stale[page] != np.uint64(0):
            pages += 1
    return pages, lines


@kernel
def take_stale(stale: NDArray[np.uint64], out: NDArray[np.int64]) -> int:
    """Write the numbers of the pages that have a mask to `out` (int64[n_pages]), clear the masks.

    Returns how many there are; they are sorted.
    """
    n = 0
    for page in range(len(stale)):
        if stale[page] != np.uint64(0):
            out[n] = page
            n += 1
            stale[page] = np.uint64(0)
    return n


@kernel
def take_missing(stale: NDArray[np.uint64], sent: NDArray[np.bool_], out: NDArray[np.uint8]) -> int:
    """Mark in `out` what a destination has not: pages that are stale, or were never sent.

    stale: uint64[n_pages], cleared; sent: bool[n_pages], becomes true; out: uint8, a bit a page,
    least significant first, overwritten. Returns how many of the pages had been sent before.
    """
    again = 0
    for at in range(len(out)):
        byte = 0
        for bit in range(8):
            page = 8 * at + bit
            if page < len(stale):
                if stale[page] != np.uint64(0) or not sent[page]:
                    byte |= 1 << bit
                    again += sent[page]
                stale[page] = np.uint64(0)
                sent[page] = True
        out[at] = byte
    return again
