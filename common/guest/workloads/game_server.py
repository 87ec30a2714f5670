"""The paper's third example: a world that never stands still."""

from __future__ import annotations

from typing import Final

import numpy as np

from pageferry.common.guest.cache import access
from pageferry.common.guest.control import STEPS, VcpuArrays
from pageferry.common.guest.jit import inlined, kernel
from pageferry.common.guest.native import signed
from pageferry.common.guest.pace import Pace
from pageferry.common.guest.quantum import begin_quantum, page_missing
from pageferry.common.guest.workloads.base import FIRST_PAGE, OWN, PAGES, Plan, Workload
from pageferry.common.workload.region import Region

_LINES: Final = OWN
_ONE: Final = np.uint64(1)


@inlined
def _part_of(entity: int, lines: int) -> int:
    """Return which 64 bytes of the world hold an entity's state, with `lines` entities a page."""
    page = entity // lines
    return (page << 6) + ((page * 7 + entity % lines) & 63)


@kernel
def quantum(m: VcpuArrays, n: int) -> None:
    """Run `n` steps, or fewer if a page is missing.

    Args:
        m: What the vCPU works on; its `state` counts the steps done.
        n: Steps to run, as `begin_quantum` returned it.
    """
    p = m.params
    base = p[FIRST_PAGE] << 6
    lines = p[_LINES]
    entities = p[PAGES] * lines
    for _ in range(n):
        step = signed(m.state[STEPS])
        tick = step // entities
        entity = step - tick * entities
        at = access(m, base + _part_of((entity + entities - 1) % entities, lines), False)
        if at < 0:
            page_missing(m, -1 - at)
            break
        neighbour = m.arena[at]
        at = access(m, base + _part_of(entity, lines), True)
        if at < 0:
            page_missing(m, -1 - at)
            break
        # Its velocity follows the neighbour's; adding an odd number always moves it.
        m.arena[at + 1] += neighbour ^ np.uint64(tick)
        m.arena[at] += neighbour | _ONE
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


class GameServer(Workload):
    """A world of entities (players, monsters, projectiles) whose state changes with every tick.

    `lines` entities of one line each live in every page of the world (`working-set`), spread as an
    allocator spreads objects. A tick goes through all of them: each reads the state of its
    neighbour and changes its own. A host that cannot keep up with `ticks` a second ticks as fast as
    it can.
    """

    kernel = run

    def plan(self, region: Region) -> Plan:
        """Plan a world in which all entities are due at once, at the start of every tick.

        Args:
            region: The vCPU's part of the guest.

        Returns:
            One step per entity and tick.
        """
        pages = self.options["working-set"].pages(region)
        lines = int(self.options["lines"])
        steps = pages * lines
        period_ns = round(1e9 / int(self.options["ticks"]))
        return Plan(
            pages=pages, own=(lines,), pace=Pace(period_ns=period_ns, burst=steps, steps=steps)
        )
