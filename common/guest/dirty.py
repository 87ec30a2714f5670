"""The dirty log: a 64-bit mask for every page, a bit for each of its 64-byte lines.

Two buffers, one active. Each word has a single writer: the vCPU that owns the page. A harvest makes
the other buffer active, waits until every vCPU has seen that, and has the old one to itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pageferry.common.guest.control import ACTIVE_LOG, DIRTIED, VcpuArrays
from pageferry.common.guest.jit import inlined, kernel


@inlined
def mark(m: VcpuArrays, page: int, mask: np.uint64) -> None:
    """These lines of `page` have changed in memory."""
    at = m.ctl[ACTIVE_LOG] + page
    before = m.log[at]
    if before == np.uint64(0):
        m.ctl[DIRTIED] += 1
    m.log[at] = before | mask


@inlined
def count_write(m: VcpuArrays, page: int) -> None:
    """The guest has written a line of `page`, wherever that line is now."""
    if len(m.counts) != 0:
        m.counts[page] += np.uint64(1)


@inlined
def count_written_back(m: VcpuArrays, page: int, lines: int) -> None:
    """Lines of `page` have reached memory."""
    if len(m.counts) != 0:
        m.counts[(len(m.counts) >> 1) + page] += np.uint64(lines)


@kernel
def collect(log: NDArray[np.uint64], out: NDArray[np.uint64]) -> None:
    """OR `log` into `out` (both uint64[n_pages]) and clear it."""
    for page in range(len(log)):
        mask = log[page]
        if mask != np.uint64(0):
            out[page] |= mask
            log[page] = np.uint64(0)
