"""One page after the other."""

from __future__ import annotations

from typing import ClassVar

from common.guest.workloads.visits import SEQUENTIAL, VisitWorkload, visit_keys


class Sequential(VisitWorkload):
    """Goes through its working set page by page, and round again.

    Options: working-set=100%, rate=max, lines=64, scatter=false, write-share=100%,
    zero-share=0%, entropy=100%. A step is one line of the visited page, written (or read:
    write-share).
    """

    name = "sequential"
    keys: ClassVar = visit_keys("100%", "max", 64)
    order = SEQUENTIAL
