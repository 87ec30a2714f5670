"""Pages at random, each as likely as any other."""

from __future__ import annotations

from typing import ClassVar

from common.guest.workloads.visits import UNIFORM, VisitWorkload, visit_keys


class Uniform(VisitWorkload):
    """Visits random pages of its working set, evenly.

    Options: working-set=100%, rate=max, lines=1, scatter=false, write-share=100%,
    zero-share=0%, entropy=100%. A step is one line of the visited page, written (or read:
    write-share).
    """

    name = "uniform"
    keys: ClassVar = visit_keys("100%", "max", 1)
    order = UNIFORM
