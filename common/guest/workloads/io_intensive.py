"""The paper's second load: buffered file I/O."""

from __future__ import annotations

from typing import Final

import numpy as np

from pageferry.common.guest.cache import access
from pageferry.common.guest.control import STEPS, VcpuArrays
from pageferry.common.guest.jit import inlined, kernel
from pageferry.common.guest.native import signed
from pageferry.common.guest.pace import even
from pageferry.common.guest.quantum import begin_quantum, page_missing
from pageferry.common.guest.rng import GOLDEN, mix
from pageferry.common.guest.workloads.base import FIRST_PAGE, OWN, PAGES, SEED, Plan, Workload
from pageferry.common.workload.region import Region, visits_per_s
from pageferry.common.workload.shapes import EXTENT_PAGES, METADATA_SHARE

_LINES: Final = OWN
_METADATA: Final = OWN + 1  # pages of it, before the data
_ONE: Final = np.uint64(1)
_HALF: Final = np.uint64(32)


@inlined
def _below(h: np.uint64, n: int) -> int:
    """Return a number from 0 to n - 1, as the hash's upper half says."""
    return signed(((h >> _HALF) * np.uint64(n)) >> _HALF)


@inlined
def _target(m: VcpuArrays, step: int) -> int:
    """Return which 64 bytes of the working set a step writes."""
    p = m.params
    lines, metadata = p[_LINES], p[_METADATA]
    data = p[PAGES] - metadata
    extent = step // (EXTENT_PAGES * lines + 1)
    within = step - extent * (EXTENT_PAGES * lines + 1)
    h = mix(np.uint64(p[SEED]) + np.uint64(extent))
    if within == EXTENT_PAGES * lines:
        return (_below(mix(h), metadata) << 6) + signed(h & np.uint64(63))
    page = (_below(h, data) + within // lines) % data
    return signed(((metadata + page) << 6) + within % lines)


@kernel
def quantum(m: VcpuArrays, n: int) -> None:
    """Run `n` steps, or fewer if a page is missing.

    Args:
        m: What the vCPU works on; its `state` counts the steps done.
        n: Steps to run, as `begin_quantum` returned it.
    """
    base = m.params[FIRST_PAGE] << 6
    for _ in range(n):
        step = signed(m.state[STEPS])
        part = base + _target(m, step)
        at = access(m, part, True)
        if at < 0:
            page_missing(m, -1 - at)
            break
        m.arena[at + (part & 7)] += (np.uint64(step) * GOLDEN) | _ONE
        m.state[STEPS] = np.uint64(step + 1)


@kernel
def run(m: VcpuArrays) -> None:
    """Run quanta until the vCPU is told to stop.

    Args:
        m: What the vCPU works on.
    """
    while True:
        n = begin_quantum(m)
        if n == 0:
            return
        quantum(m, n)


class IoIntensive(Workload):
    """Writes files through the page cache, which is its working set.

    An extent of 32 pages at a random place is written page by page, `lines` lines of each, and then
    one line of metadata (inode, journal). Metadata live in the first 1/64 of the working set.
    """

    kernel = run

    def plan(self, region: Region) -> Plan:
        """Plan extents at the rate asked for, a line of metadata after each.

        Args:
            region: The vCPU's part of the guest.

        Returns:
            At least two pages: one of metadata, one of data.
        """
        pages = max(2, self.options["working-set"].pages(region))
        lines = int(self.options["lines"])
        steps = EXTENT_PAGES * lines + 1
        extents_per_s = visits_per_s(self.options["rate"], region) / EXTENT_PAGES
        return Plan(
            pages=pages,
            own=(lines, max(1, pages // METADATA_SHARE)),
            pace=even(extents_per_s * steps, steps),
        )
