"""The paper's third load: a small program that keeps writing half of the guest's memory."""

from __future__ import annotations

from pageferry.common.guest.workloads.visiting import VisitWorkload
from pageferry.common.guest.workloads.visits import SEQUENTIAL


class MemoryIntensive(VisitWorkload):
    """Keeps writing the same half of memory from end to end, flat out."""

    order = SEQUENTIAL
