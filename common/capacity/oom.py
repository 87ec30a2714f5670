"""Whether the kernel has killed somebody for lack of memory in the meantime."""

from __future__ import annotations

import signal
from pathlib import Path

from pageferry.common.capacity.cgroups import ROOT, ControlGroup, fields, groups, read_text
from pageferry.common.capacity.memory import rough_size


class OomWatch:
    """Counts of kills, since it was made.

    A group's count (v1: of that group alone, memory.oom_control; v2: with those below it,
    memory.events) says more than the machine's (/proc/vmstat), which covers anybody's processes.

    Args:
        root: Where files are looked for.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._groups = [(group, _kills(group)) for group in groups("memory", root)]
        self._machine = self._of_machine()

    def _of_machine(self) -> int:
        return fields(read_text(self._root / "proc/vmstat") or "").get("oom_kill", 0)

    def words(self) -> str | None:
        """Say what has happened since, for whoever lost a process to SIGKILL.

        Returns:
            The words, one line; None: the kernel has killed nobody.
        """
        for group, before in self._groups:
            if _kills(group) > before:
                limit = group.number(
                    "memory.limit_in_bytes" if group.version == 1 else "memory.max"
                )
                full = "" if limit is None else f", whose limit is {rough_size(limit)}"
                return f"out of memory: the kernel killed in memory cgroup {group.path}{full}"
        if self._of_machine() > self._machine:
            return "out of memory, it seems: the kernel killed a process of this machine for that"
        return None


def how_ended(exit_code: int, watch: OomWatch) -> str | None:
    """Say how a child was killed: `SIGKILL (out of memory: ...)`.

    Args:
        exit_code: As `subprocess` reports it: minus the signal's number.
        watch: Made before the child was started.

    Returns:
        The words; None: it ended by itself.
    """
    if exit_code >= 0:
        return None
    name = signal.Signals(-exit_code).name
    why = watch.words() if exit_code == -signal.SIGKILL else None
    return name if why is None else f"{name} ({why})"


def _kills(group: ControlGroup) -> int:
    name = "memory.oom_control" if group.version == 1 else "memory.events"
    return group.fields(name).get("oom_kill", 0)
