"""How much memory is left, under each limit that binds this process."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pageferry.common.capacity.cgroups import ROOT, ControlGroup, fields, groups, read_text
from pageferry.common.errors import UsageError
from pageferry.common.units import PAGE_SIZE, format_size

MIB: Final = 2**20
_NO_LIMIT: Final = 2**60
_STRICT: Final = 2  # vm.overcommit_memory: the kernel promises no more than there is


@dataclass(frozen=True, slots=True)
class Room:
    """What is left of one limit.

    Attributes:
        free: Bytes left.
        limit: Bytes in all.
        source: Whose limit it is, in words.
        kind: `touched` memory, or address space that is `mapped`, touched or not.
    """

    free: int
    limit: int
    source: str
    kind: Literal["touched", "mapped"] = "touched"

    def __str__(self) -> str:
        what = "" if self.kind == "touched" else " of address space"
        return f"{rough_size(self.free)}{what} is free of {self.source}'s {rough_size(self.limit)}"


def rough_size(size: int) -> str:
    """Write a size for people, rounded down, as an option takes it: `1228MiB`.

    Args:
        size: Bytes.

    Returns:
        Whole MiB, or whole KiB below that, or bytes.
    """
    for unit in (MIB, 2**10):
        if size >= unit:
            return format_size(size - size % unit) if unit < MIB else f"{size // unit}MiB"
    return format_size(size)


def rooms(root: Path = ROOT) -> list[Room]:
    """Find out what is left under every limit.

    Args:
        root: Where files are looked for; rlimits are always this process's.

    Returns:
        The rooms; the machine's is among them wherever /proc shows it.
    """
    return [*_machine(root), *_groups(root), *own_rooms(root)]


def _machine(root: Path) -> list[Room]:
    """Read what the kernel could give without swapping, and what it would promise."""
    info = {
        name: kib * 1024 for name, kib in fields(read_text(root / "proc/meminfo") or "").items()
    }
    found = []
    if "MemAvailable" in info:
        total = info.get("MemTotal", info["MemAvailable"])
        found.append(Room(info["MemAvailable"], total, "this machine"))
    policy = (read_text(root / "proc/sys/vm/overcommit_memory") or "").strip()
    if policy == str(_STRICT) and "CommitLimit" in info:
        free = max(info["CommitLimit"] - info.get("Committed_AS", 0), 0)
        source = "this machine's commit limit (vm.overcommit_memory=2)"
        found.append(Room(free, info["CommitLimit"], source))
    return found


def _groups(root: Path) -> list[Room]:
    ours = groups("memory", root)
    found: list[Room] = []
    for group in ours:
        found += _rooms_v1(group) if group.version == 1 else _rooms_v2(group)
    if ours and ours[0].version == 1:
        found += _rooms_unseen(ours[0], min((room.limit for room in found), default=_NO_LIMIT))
    return found


def _rooms_unseen(group: ControlGroup, least: int) -> list[Room]:
    """Find the limit above the visible groups, of which version 1 shows the least.

    It does so even in a container. How much of it is used is not shown; it is at least what we use.
    least: of the limits that are visible.
    """
    limit = group.fields("memory.stat").get("hierarchical_memory_limit", _NO_LIMIT)
    if limit >= least:
        return []
    source = f"the memory cgroups above {group.path}"
    return _left([(limit, group.number("memory.usage_in_bytes"), source)], _cached(group))


def _cached(group: ControlGroup) -> int:
    """Read how much is inactive file cache, which the kernel drops before anything else."""
    stat = group.fields("memory.stat")
    return stat.get("total_inactive_file", stat.get("inactive_file", 0))


def _rooms_v1(group: ControlGroup) -> list[Room]:
    """Read memory.limit_in_bytes, and memory.memsw.limit_in_bytes, which includes swap."""
    source = f"memory cgroup {group.path}"
    limits = [
        (group.number(f"{name}.limit_in_bytes"), group.number(f"{name}.usage_in_bytes"), said)
        for name, said in (("memory", source), ("memory.memsw", f"{source} with its swap"))
    ]
    return _left(limits, _cached(group))


def _rooms_v2(group: ControlGroup) -> list[Room]:
    """Read memory.max, at which the kernel kills, and memory.high, above which it throttles."""
    source, used = f"memory cgroup {group.path}", group.number("memory.current")
    limits = [
        (group.number("memory.max"), used, source),
        (group.number("memory.high"), used, f"{source} (memory.high)"),
    ]
    return _left(limits, _cached(group))


def _left(limits: list[tuple[int | None, int | None, str]], cached: int) -> list[Room]:
    return [
        Room(max(limit - max((used or 0) - cached, 0), 0), limit, source)
        for limit, used, source in limits
        if limit is not None
    ]


def own_rooms(root: Path = ROOT) -> list[Room]:
    """Find out what is left of this process's limits of address space (`ulimit -v`, `-d`).

    Args:
        root: Where /proc is looked for; the limits are always this process's.

    Returns:
        A room per limit that is set, of kind `mapped`.
    """
    pages = (read_text(root / "proc/self/statm") or "").split()
    mapped = int(pages[0]) * PAGE_SIZE if pages else 0
    data = fields(read_text(root / "proc/self/status") or "").get("VmData", 0) * 1024
    found = []
    for name, used, source in (
        (resource.RLIMIT_AS, mapped, "this process (ulimit -v)"),
        (resource.RLIMIT_DATA, data, "this process's data (ulimit -d)"),
    ):
        limit = resource.getrlimit(name)[0]
        if 0 <= limit < _NO_LIMIT:
            found.append(Room(max(limit - used, 0), limit, source, "mapped"))
    return found


def touched_bytes(root: Path = ROOT) -> int:
    """Read how much memory without a file behind it this process has touched, of all it asked for.

    Args:
        root: Where /proc is looked for.

    Returns:
        Bytes; 0 where /proc does not show it.
    """
    return fields(read_text(root / "proc/self/status") or "").get("RssAnon", 0) * 1024


def least(kind: Literal["touched", "mapped"] = "touched", root: Path = ROOT) -> Room | None:
    """Find the limit under which the least is left.

    Args:
        kind: Limits of this kind only.
        root: Where files are looked for.

    Returns:
        The room; None where nothing shows a limit.
    """
    return min((r for r in rooms(root) if r.kind == kind), key=lambda r: r.free, default=None)


def check_memory(
    what: str, size: int, *, beside: int = 0, here: bool = True, root: Path = ROOT
) -> None:
    """Check that so much memory can be had without running out.

    Args:
        what: Who needs it, the subject of the message's sentence.
        size: Bytes that are needed.
        beside: Bytes that others will take, and that still look free.
        here: Whether this process will take them, so that its own limits of address space count as
            well.
        root: Where files are looked for.

    Raises:
        UsageError: Some limit leaves less.
    """
    for room in sorted(rooms(root), key=lambda room: room.free):
        if room.kind == "mapped" and not here:
            continue
        others = beside if room.kind == "touched" else 0
        if size + others > room.free:
            words = f" beside {rough_size(others)} that others will need" if others else ""
            raise UsageError(f"{what} does not fit: it needs {rough_size(size)}{words}, and {room}")
