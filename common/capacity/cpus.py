"""How many processors this process may use at a time."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from pageferry.common.capacity.cgroups import ROOT, ControlGroup, groups, is_number


@dataclass(frozen=True, slots=True)
class Cpus:
    """The processors that work may be spread over.

    Attributes:
        count: Whole ones that are worth a thread each, at least 1.
        source: Whose limit that is, in words.
        quota: Processors' time a second, the least of all groups; None: no group limits it.
    """

    count: int
    source: str
    quota: float | None = None


def usable_cpus(root: Path = ROOT) -> Cpus:
    """Return the least of the machine's processors, our CPU affinity, and the groups' quotas.

    A quota of one and a half is worth two threads.

    Args:
        root: Where files are looked for; processors and affinity are always this machine's.

    Returns:
        The least, and whose limit it is.
    """
    machine = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0))
    found = Cpus(allowed, "this machine" if allowed >= machine else "the CPU affinity")
    least: float | None = None
    for group in groups("cpu", root):
        quota = _quota(group)
        if quota is not None and (least is None or quota < least):
            least = quota
            if math.ceil(quota) < found.count:
                source = f"cpu cgroup {group.path}'s quota of {quota:g} CPUs"
                found = Cpus(max(math.ceil(quota), 1), source)
    return Cpus(found.count, found.source, least)


def _quota(group: ControlGroup) -> float | None:
    """Read a quota. v1: cpu.cfs_quota_us (-1: none) by cpu.cfs_period_us. v2: both in cpu.max."""
    if group.version == 1:
        words = [group.text("cpu.cfs_quota_us") or "", group.text("cpu.cfs_period_us") or ""]
    else:
        words = (group.text("cpu.max") or "").split()
    numbers = [int(word) for word in words if is_number(word.strip())]
    if len(numbers) != 2 or 0 in numbers:
        return None
    return numbers[0] / numbers[1]
