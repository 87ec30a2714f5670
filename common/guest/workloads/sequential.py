"""One page after the other."""

from __future__ import annotations

from pageferry.common.guest.workloads.visiting import VisitWorkload
from pageferry.common.guest.workloads.visits import SEQUENTIAL


class Sequential(VisitWorkload):
    """Goes through its working set page by page, and round again."""

    order = SEQUENTIAL
