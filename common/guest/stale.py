"""Line masks of whole guests, processed without temporary arrays.

A fresh page of memory costs several microseconds at its first touch, so a temporary array with an
element for each guest page would cost more than the work on it: buffers are made once, touched, and
used again.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.guest.jit import inlined, kernel


def new_masks(n_pages: int) -> NDArray[np.uint64]:
    """Make line masks that are zero and already in memory.

    Args:
        n_pages: How many; a bit of each stands for a 64-byte line of a page.

    Returns:
        uint64[n_pages].
    """
    masks = np.empty(n_pages, np.uint64)
    masks.fill(0)  # np.zeros would leave the first touch to the first writer
    return masks


@kernel
def popcount(x: np.uint64) -> int:
    """Count the bits that are set.

    Args:
        x: A line mask.

    Returns:
        0 to 64.
    """
    count = 0
    while x != np.uint64(0):
        x &= x - np.uint64(1)
        count += 1
    return count


@inlined
def _by_line(mask: np.uint64, sent: bool, most_lines: int) -> int:
    """Return how many lines the page travels as; 0: it goes whole."""
    if not sent:
        return 0
    lines = popcount(mask)
    return lines if lines <= most_lines else 0


UNION: Final = 0  # the first of three words each: pages that go whole, pages by line, their lines
MEMORY: Final = 3
CACHE: Final = 6
IN_CACHE: Final = 9  # dirty lines in the cache
LINES: Final = 10  # stale lines, whatever their pages travel as
COUNTS: Final = 11


@inlined
def _tally(counts: NDArray[np.int64], at: int, mask: np.uint64, sent: bool, most: int) -> None:
    if mask != np.uint64(0):
        few = _by_line(mask, sent, most)
        if few:
            counts[at + 1] += 1
            counts[at + 2] += few
        else:
            counts[at] += 1


@kernel
def count_stale(
    stale: NDArray[np.uint64],
    cached: NDArray[np.uint64],
    sent: NDArray[np.bool_],
    most_lines: int,
    by_bin: NDArray[np.int64],
    per_bin: int,
    counts: NDArray[np.int64],
) -> None:
    """Count what is stale in memory, in the cache, and in either.

    Args:
        stale: uint64[n_pages], lines of memory that the destination lacks; unchanged.
        cached: uint64[n_pages], dirty lines of the guest's cache; cleared.
        sent: As for `take_stale`.
        most_lines: As for `take_stale`.
        by_bin: int64 per bin, overwritten: stale pages of each.
        per_bin: Pages of a bin.
        counts: int64[COUNTS], overwritten; see `UNION`, `MEMORY`, `CACHE`, `IN_CACHE`
            and `LINES`.
    """
    by_bin[:] = 0
    counts[:] = 0
    for page in range(len(stale)):
        mask = stale[page] | cached[page]
        if mask != np.uint64(0):
            _tally(counts, UNION, mask, sent[page], most_lines)
            _tally(counts, MEMORY, stale[page], sent[page], most_lines)
            _tally(counts, CACHE, cached[page], sent[page], most_lines)
            counts[IN_CACHE] += popcount(cached[page])
            counts[LINES] += popcount(mask)
            cached[page] = np.uint64(0)
            by_bin[page // per_bin] += 1


@kernel
def merge(
    dirtied: NDArray[np.uint64], stale: NDArray[np.uint64], counts: NDArray[np.int64], keep: bool
) -> None:
    """OR `dirtied` into `stale`, and clear it unless it is to be kept.

    Args:
        dirtied: uint64[n_pages], lines written.
        stale: uint64[n_pages], lines that the destination lacks; changed.
        counts: int64[2], overwritten: pages in `dirtied`, and those of them not stale before.
        keep: Leave `dirtied` as it is, for a later call that sees more.
    """
    counts[:] = 0
    for page in range(len(dirtied)):
        mask = dirtied[page]
        if mask != np.uint64(0):
            counts[0] += 1
            counts[1] += stale[page] == np.uint64(0)
            stale[page] |= mask
            if not keep:
                dirtied[page] = np.uint64(0)


@kernel
def take_stale(
    stale: NDArray[np.uint64],
    sent: NDArray[np.bool_],
    most_lines: int,
    whole: NDArray[np.int64],
    lined: NDArray[np.int64],
    masks: NDArray[np.uint64],
) -> tuple[int, int]:
    """Take every page with a mask out of `stale`, sorted into whole pages and pages by line.

    A page goes by line if it has been sent before and at most `most_lines` of its lines have
    changed. Both outputs are in the order of pages, and need room for n_pages each.

    Args:
        stale: uint64[n_pages], lines that the destination lacks; cleared.
        sent: bool[n_pages], pages that have been sent before.
        most_lines: Above so many changed lines a page goes whole; 0: every page does.
        whole: Numbers of pages that go whole, written here.
        lined: Numbers of pages that go by line, written here.
        masks: The mask of each page in `lined`, written here.

    Returns:
        How many elements of `whole`, and of `lined`, are used.
    """
    n = m = 0
    for page in range(len(stale)):
        mask = stale[page]
        if mask != np.uint64(0):
            stale[page] = np.uint64(0)
            if _by_line(mask, sent[page], most_lines):
                lined[m] = page
                masks[m] = mask
                m += 1
            else:
                whole[n] = page
                n += 1
    return n, m


@kernel
def take_missing(stale: NDArray[np.uint64], sent: NDArray[np.bool_], out: NDArray[np.uint8]) -> int:
    """Mark in a bitmap what a destination lacks: pages that are stale, or were never sent.

    Args:
        stale: uint64[n_pages]; cleared.
        sent: bool[n_pages], pages that have been sent before; all true afterwards.
        out: uint8, a bit a page, least significant first; overwritten.

    Returns:
        How many of the marked pages had been sent before.
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
