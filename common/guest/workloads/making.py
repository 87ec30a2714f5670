"""From a workload as the user chose it to what compiles and runs it."""

from __future__ import annotations

from typing import Any

from pageferry.common.guest.workloads.base import Workload
from pageferry.common.workload.spec import Chosen, import_place


def make_workload(chosen: Chosen) -> Workload:
    """Make what runs a workload; this imports its kernels.

    Args:
        chosen: The workload with its options.

    Returns:
        A workload with these options.

    Raises:
        UsageError: Something that it needs, such as a trace's file, can't be had.
    """
    cls: Any = import_place(chosen.spec.made_by)
    workload: Workload = cls(chosen.options)
    return workload
