"""What a real program did, over and over."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from pageferry.common.files.memory_trace import LINE_SHIFT, PAGE_SHIFT, MemoryTrace
from pageferry.common.guest.cache import access
from pageferry.common.guest.control import STEPS, SUM, VcpuArrays
from pageferry.common.guest.jit import kernel
from pageferry.common.guest.native import signed
from pageferry.common.guest.pace import even
from pageferry.common.guest.quantum import begin_quantum, page_missing
from pageferry.common.guest.rng import GOLDEN
from pageferry.common.guest.workloads.base import FIRST_PAGE, OWN, PAGES, Plan, Workload
from pageferry.common.workload.region import Region, visits_per_s
from pageferry.common.workload.traced import traced

_ACCESSES: Final = OWN
_START: Final = OWN + 1  # the access that step 0 replays
_TRACED: Final = OWN + 2  # pages of the trace, at least as many as the working set
_ONE: Final = np.uint64(1)
_LOW32: Final = np.uint64(2**32 - 1)


@kernel
def quantum(m: VcpuArrays, n: int) -> None:
    """Run `n` steps, or fewer if a page is missing.

    Args:
        m: What the vCPU works on; its `state` counts the steps done.
        n: Steps to run, as `begin_quantum` returned it.
    """
    p = m.params
    accesses, traced, pages = p[_ACCESSES], p[_TRACED], p[PAGES]
    base = p[FIRST_PAGE] << 6
    total = m.state[SUM]
    step = signed(m.state[STEPS])
    end = step + n
    at = (step % accesses + p[_START]) % accesses
    while step < end:
        # Two accesses a word of the table, the earlier one in its lower half.
        word = m.table[np.uint64(at >> 1)] >> np.uint64((at & 1) << 5)
        item = signed(word & _LOW32)
        page = item >> PAGE_SHIFT
        if traced != pages:
            page = page * pages // traced
        line = (item >> LINE_SHIFT) & 63
        write = bool(item & 1)
        where = access(m, base + (page << 6) + line, write)
        if where < 0:
            page_missing(m, -1 - where)
            break
        where += (page + line) & 7
        if write:
            m.arena[np.uint64(where)] += (np.uint64(step) * GOLDEN) | _ONE
        else:
            total += m.arena[np.uint64(where)]
        step += 1
        at += 1
        if at == accesses:
            at = 0
    m.state[STEPS] = np.uint64(step)
    m.state[SUM] = total


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


class Trace(Workload):
    """Replays the memory accesses of a real program, again and again.

    FILE is what `pageferry trace import` has written. The first pages of each vCPU's part of memory
    are the trace's pages, one for one; if the part is smaller than the trace, page i of P becomes
    page floor(i * part / P) of it, so that neighbours share pages. vCPU i of n begins i/n of the
    way into the trace. `digest` is that of the trace's content: a file with another one is refused,
    at the destination too, which reads a file of the same name.

    Args:
        options: As for every workload. The file is opened here; `UsageError` if that fails.
    """

    kernel = run

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        self._trace = traced(options)

    @functools.cached_property
    def _verified(self) -> MemoryTrace:
        """The trace, its content read and checked once, since the kernel trusts it."""
        self._trace.verify()
        return self._trace

    def plan(self, region: Region) -> Plan:
        """Plan the replay from the vCPU's own place in the trace.

        Args:
            region: The vCPU's part of the guest.

        Returns:
            A table that is the mapped file itself; one access counts as one page visit.

        Raises:
            UsageError: The file's content is not what its metadata say.
        """
        trace = self._verified
        accesses, traced = trace.meta.accesses, trace.meta.pages
        return Plan(
            pages=min(traced, region.pages),
            own=(accesses, accesses * region.vcpu // region.vcpus, traced),
            pace=even(visits_per_s(self.options["rate"], region)),
            table=trace.words,
        )
