"""Threads and processes: what pids.max and `ulimit -u` leave of them."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pageferry.common.capacity.cgroups import ROOT, fields, groups, read_text
from pageferry.common.errors import UsageError

_MANY: Final = 16384  # above this limit, counting all that a user runs is not worth it


@dataclass(frozen=True, slots=True)
class TaskRoom:
    """How many more threads and processes there may be under one limit.

    Attributes:
        free: How many more.
        limit: How many in all.
        source: Whose limit it is, in words.
    """

    free: int
    limit: int
    source: str

    def __str__(self) -> str:
        return f"{self.free} are free of {self.source}'s {self.limit}"


def task_rooms(root: Path = ROOT) -> list[TaskRoom]:
    """Find out how many more there may be under every limit.

    Args:
        root: Where files are looked for; user and rlimit are always this process's.

    Returns:
        A room per limit; empty where nothing limits them.
    """
    found = []
    for group in groups("pids", root):
        limit, used = group.number("pids.max"), group.number("pids.current")
        if limit is not None:
            found.append(TaskRoom(max(limit - (used or 0), 0), limit, f"pids cgroup {group.path}"))
    limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    if os.geteuid() != 0 and 0 <= limit < _MANY:  # root is not bound by it
        free = max(limit - _ours(root), 0)
        found.append(TaskRoom(free, limit, "this user (ulimit -u)"))
    return found


def _ours(root: Path) -> int:
    """Count the threads of all processes of this user."""
    uid, total = os.getuid(), 0
    for folder in (root / "proc").glob("[0-9]*"):
        status = fields(read_text(folder / "status") or "")
        if status.get("Uid") == uid:
            total += status.get("Threads", 1)
    return total


def check_tasks(what: str, more: int, root: Path = ROOT) -> None:
    """Check that so many more threads and processes can be started.

    Args:
        what: Who needs them, the subject of the message's sentence.
        more: How many are needed.
        root: Where files are looked for.

    Raises:
        UsageError: Some limit leaves fewer.
    """
    for room in task_rooms(root):
        if more > room.free:
            raise UsageError(f"{what} needs {more} threads and processes, and {room}")
