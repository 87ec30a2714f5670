"""A trace's working set: how many pages and lines any stretch of it touches, on average.

A trace is replayed in a circle. A page is in a stretch of n accesses unless the stretch fits into
one of the gaps between the page's accesses. So, over all stretches, a page is missed in
max(gap - n, 0) of them, summed over its gaps, and the distinct pages of a stretch are on average
sum(min(gap, n)) / accesses (Denning and Schwartz, 1972). One pass over the trace gives the gaps.
"""

from __future__ import annotations

import functools
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.files.memory_trace import LINE_SHIFT, PAGE_SHIFT, open_trace
from pageferry.sim.pattern import Counted, Figures

_POINTS_PER_OCTAVE: Final = 8


@functools.lru_cache(maxsize=8)
def count_trace(file: str, pages: int) -> Counted:
    """Count what a trace touches, for a region of so many pages; the last results are kept.

    Args:
        file: The trace.
        pages: Pages of the region; a trace with more is squeezed into it.

    Returns:
        Distinct pages and lines, written and touched, after so many accesses.

    Raises:
        UsageError: The file can't be read, is no trace, or is damaged.
    """
    trace = open_trace(file)
    trace.verify()
    accesses, traced = trace.accesses, trace.meta.pages
    page = (accesses >> np.uint32(PAGE_SHIFT)).astype(np.int64)
    if pages < traced:
        page = page * pages // traced
    line = (page << 6) | ((accesses >> np.uint32(LINE_SHIFT)) & np.uint32(63)).astype(np.int64)
    write = (accesses & np.uint32(1)).astype(np.bool_)
    total = len(accesses)
    steps = np.unique(
        np.ceil(2.0 ** (np.arange(0, 8 * total.bit_length() + 1) / _POINTS_PER_OCTAVE))
    )
    visits = np.concatenate(([0.0], np.minimum(steps, total)))
    visits = np.unique(visits)
    where = np.arange(total, dtype=np.int64)
    return Counted(
        visits,
        _distinct(page[write], where[write], total, visits),
        _distinct(line[write], where[write], total, visits),
        _distinct(page, where, total, visits),
        _distinct(line, where, total, visits),
    )


def _distinct(
    what: NDArray[np.int64], where: NDArray[np.int64], total: int, stretches: Figures
) -> Figures:
    """Count the distinct ones in stretches of each length. `what` is at `where`, of `total`."""
    if len(what) == 0:
        return np.zeros(len(stretches))
    order = np.argsort(what, kind="stable")
    what, where = what[order], where[order]
    first = np.concatenate(([True], what[1:] != what[:-1]))
    last = np.concatenate((first[1:], [True]))
    gaps = np.empty(len(what), np.int64)
    gaps[1:] = where[1:] - where[:-1]
    gaps[first] = where[first] + total - where[last]  # round the circle
    gaps.sort()
    sums = np.concatenate(([0], np.cumsum(gaps))).astype(np.float64)
    short = np.searchsorted(gaps, stretches, side="right")
    return (sums[short] + stretches * (len(gaps) - short)) / total
