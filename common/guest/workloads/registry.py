"""From a workload's text to what compiles and runs it."""

from __future__ import annotations

from typing import Any

from common.guest.workloads.base import Workload
from common.workload.registry import choose
from common.workload.spec import Chosen, load


def make_workload(chosen: Chosen) -> Workload:
    """What runs it. Raises `UsageError` where something that it needs can't be had."""
    cls: Any = load(chosen.spec.made_by)
    workload: Workload = cls(chosen.options)
    return workload


def parse_workload(text: str) -> Workload:
    """`uniform:rate=40MB/s,lines=4` to a workload. Raises `UsageError` in one line."""
    return make_workload(choose(text))
