"""From a workload as it was chosen to what compiles and runs it."""

from __future__ import annotations

from typing import Any

from pageferry.common.guest.workloads.base import Workload
from pageferry.common.workload.spec import Chosen, load


def make_workload(chosen: Chosen) -> Workload:
    """What runs it. Raises `UsageError` where something that it needs can't be had."""
    cls: Any = load(chosen.spec.made_by)
    workload: Workload = cls(chosen.options)
    return workload
