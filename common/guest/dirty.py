"""The dirty log: a 64-bit mask for every page, a bit for each of its 64-byte lines.

There are two buffers, one of them active. Each word has a single writer: the vCPU that owns the
page. A harvest makes the other buffer active, waits until every vCPU has seen that, and then has
the old one to itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pageferry.common.guest.control import ACTIVE_LOG, DIRTIED, VcpuArrays
from pageferry.common.guest.jit import inlined, kernel


@inlined
def mark(m: VcpuArrays, page: int, mask: np.uint64) -> None:
    """Log that lines of a page have changed in memory.

    Args:
        m: What the vCPU that owns the page works on; its active buffer and `DIRTIED` are updated.
        page: The page's number.
        mask: The lines, not zero.
    """
    at = m.ctl[ACTIVE_LOG] + page
    before = m.log[at]
    if before == np.uint64(0):
        m.ctl[DIRTIED] += 1
    m.log[at] = before | mask


@inlined
def count_write(m: VcpuArrays, page: int) -> None:
    """Count a line that the guest has written, wherever it is now; without counters do nothing.

    Args:
        m: What the vCPU works on; the first half of its `counts` is updated.
        page: The page's number.
    """
    if len(m.counts) != 0:
        m.counts[page] += np.uint64(1)


@inlined
def count_written_back(m: VcpuArrays, page: int, lines: int) -> None:
    """Count lines that have reached memory; without counters do nothing.

    Args:
        m: What the vCPU works on; the second half of its `counts` is updated.
        page: The page's number.
        lines: How many lines of it.
    """
    if len(m.counts) != 0:
        m.counts[(len(m.counts) >> 1) + page] += np.uint64(lines)


@kernel
def collect_log(log: NDArray[np.uint64], out: NDArray[np.uint64]) -> None:
    """OR a buffer of the log into `out`, and clear the buffer.

    Args:
        log: uint64[n_pages], a buffer that no vCPU writes to; cleared.
        out: uint64[n_pages]; changed.
    """
    for page in range(len(log)):
        mask = log[page]
        if mask != np.uint64(0):
            out[page] |= mask
            log[page] = np.uint64(0)
