"""A guest that does nothing but keep time."""

from __future__ import annotations

from typing import Final

import numpy as np

from pageferry.common.guest.cache import access
from pageferry.common.guest.control import STEPS, VcpuArrays
from pageferry.common.guest.jit import kernel
from pageferry.common.guest.pace import Pace
from pageferry.common.guest.quantum import begin_quantum, page_missing
from pageferry.common.guest.workloads.base import FIRST_PAGE, Plan, Workload
from pageferry.common.workload.region import Region
from pageferry.common.workload.shapes import TICK_NS

_ONE: Final = np.uint64(1)


@kernel
def run(m: VcpuArrays) -> None:
    """Run ticks until the vCPU is told to stop.

    Args:
        m: What the vCPU works on.
    """
    part = m.params[FIRST_PAGE] << 6
    while True:
        n = begin_quantum(m)
        if n == 0:
            return
        for _ in range(n):
            at = access(m, part, True)
            if at < 0:
                page_missing(m, -1 - at)
                break
            m.arena[at] += _ONE
            m.state[STEPS] += _ONE


class Idle(Workload):
    """No load: a timer tick at 1000 Hz increments one word (jiffies), on one page of each vCPU."""

    kernel = run

    def plan(self, region: Region) -> Plan:
        """Plan a step every `TICK_NS`, on the region's first page.

        Args:
            region: Not looked at.

        Returns:
            The same plan for every vCPU.
        """
        del region
        return Plan(pages=1, pace=Pace(period_ns=TICK_NS, steps=1))
