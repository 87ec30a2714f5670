"""Workloads that visit one page after another: all that they share except the compiled kernels."""

from __future__ import annotations

from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from pageferry.common.guest.pace import even
from pageferry.common.guest.workloads import mixed, visits
from pageferry.common.guest.workloads.base import Kernel, Plan, Workload
from pageferry.common.guest.workloads.visits import AHEAD_VISITS, SEQUENTIAL, WRITE_BITS
from pageferry.common.units import PAGE_SIZE
from pageferry.common.workload.mixes import Mix
from pageferry.common.workload.region import Region, visits_per_s


class VisitWorkload(Workload):
    """A workload that visits pages; a subclass adds the order.

    Attributes:
        order: `SEQUENTIAL`, `UNIFORM` or `TABLE` of `visits`.
    """

    order: ClassVar[int]
    kernel = visits.run

    @property
    def life(self) -> Kernel:
        """The kernel of `mixed` where a mixture of lines was asked for, else that of `visits`."""
        return mixed.run if isinstance(self.options["lines"], Mix) else visits.run

    def table(self, region: Region, pages: int) -> NDArray[np.uint64]:
        """Make the alias table for the order `TABLE`; other orders need none.

        Args:
            region: The vCPU's part of the guest.
            pages: Pages of its working set.

        Returns:
            uint64[2 * pages] for `TABLE`, see `visits`; here, for the other orders, a single 0.
        """
        del region, pages
        return np.zeros(1, np.uint64)

    def plan(self, region: Region) -> Plan:
        """Plan visits at the rate asked for; a mixture's line counts follow the table.

        Args:
            region: The vCPU's part of the guest.

        Returns:
            A step per line that is accessed. Visits are prefetched where most of them would miss.
        """
        lines: int | Mix = self.options["lines"]
        pages = cast(int, self.options["working-set"].pages(region))
        table = self.table(region, pages)
        per_s = visits_per_s(self.options["rate"], region)
        if isinstance(lines, Mix):
            return Plan(
                pages=pages,
                own=self._own(lines.total, 0, len(table)),
                pace=even(per_s / len(lines.lines) * lines.total, lines.total),
                table=np.concatenate((table, mixed.counts_of(lines))),
            )
        # Prefetching pays only where most visits miss.
        touched = pages * (PAGE_SIZE if self.options["scatter"] else lines * 64)
        random = self.order != SEQUENTIAL and lines <= 4 and touched > 2 * region.cache
        return Plan(
            pages=pages,
            own=self._own(lines, AHEAD_VISITS if random else 0, 0),
            pace=even(per_s * lines, lines),
            table=table,
        )

    def _own(self, lines: int, ahead: int, mixed_at: int) -> tuple[int, ...]:
        """Lay out the words from `visits.ORDER` to `visits.MIXED`."""
        scatter, writes = self.options["scatter"], self.options["write-share"]
        return self.order, lines, int(scatter), round(writes * 2**WRITE_BITS), ahead, mixed_at
