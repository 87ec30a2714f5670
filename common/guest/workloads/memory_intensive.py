"""The paper's third load: a small program that keeps writing half of the guest's memory."""

from __future__ import annotations

from typing import ClassVar

from common.guest.workloads.visits import SEQUENTIAL, VisitWorkload, visit_keys


class MemoryIntensive(VisitWorkload):
    """Keeps writing the same half of memory from end to end, flat out.

    Options: working-set=50%, rate=max, lines=64, scatter=false, write-share=100%,
    zero-share=0%, entropy=100%. A step is one line of the visited page, written.
    """

    name = "memory-intensive"
    keys: ClassVar = visit_keys("50%", "max", 64)
    order = SEQUENTIAL
