"""Pages at random, each as likely as any other."""

from __future__ import annotations

from pageferry.common.guest.workloads.visiting import VisitWorkload
from pageferry.common.guest.workloads.visits import UNIFORM


class Uniform(VisitWorkload):
    """Visits random pages of its working set, evenly."""

    order = UNIFORM
