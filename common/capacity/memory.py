"""How much memory is left, under each limit that binds this process."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pageferry.common.capacity.cgroups import ROOT, Group, fields, groups, read_text
from pageferry.common.errors import UsageError
from pageferry.common.units import PAGE_SIZE, format_size

MIB: Final = 2**20
_NO_LIMIT: Final = 2**60
_STRICT: Final = 2  # vm.overcommit_memory: no more is promised than there is


@dataclass(frozen=True, slots=True)
class Room:
    """What is left of one limit: bytes. source: whose limit it is.

    kind: `touched` memory, or address space that is `mapped`, touched or not.
    """

    free: int
    limit: int
    source: str
    kind: Literal["touched", "mapped"] = "touched"

    def __str__(self) -> str:
        what = "" if self.kind == "touched" else " of address space"
        return f"{rough(self.free)}{what} is free of {self.source}'s {rough(self.limit)}"


def rough(size: int) -> str:
    """For people, as an option takes it, rounded down: `1228MiB`."""
    for unit in (MIB, 2**10):
        if size >= unit:
            return format_size(size - size % unit) if unit < MIB else f"{size // unit}MiB"
    return format_size(size)


def rooms(root: Path = ROOT) -> list[Room]:
    """Every limit that there is; the machine's is always among them where /proc tells it."""
    return [*_machine(root), *_groups(root), *own_rooms(root)]


def _machine(root: Path) -> list[Room]:
    """What the kernel could give without swapping, and what it would promise."""
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


def _rooms_unseen(group: Group, least: int) -> list[Room]:
    """Version 1 tells the least limit of all groups above, also of those not seen in a container.

    What is used of it is not told; it is at least what we use. least: of the limits that are seen.
    """
    limit = group.fields("memory.stat").get("hierarchical_memory_limit", _NO_LIMIT)
    if limit >= least:
        return []
    source = f"the memory cgroups above {group.path}"
    return _left([(limit, group.number("memory.usage_in_bytes"), source)], _cached(group))


def _cached(group: Group) -> int:
    """Of files that were read and are not in use: dropped before anything else is."""
    stat = group.fields("memory.stat")
    return stat.get("total_inactive_file", stat.get("inactive_file", 0))


def _rooms_v1(group: Group) -> list[Room]:
    """memory.limit_in_bytes, and memory.memsw.limit_in_bytes: with what was swapped."""
    source = f"memory cgroup {group.path}"
    limits = [
        (group.number(f"{name}.limit_in_bytes"), group.number(f"{name}.usage_in_bytes"), said)
        for name, said in (("memory", source), ("memory.memsw", f"{source} with its swap"))
    ]
    return _left(limits, _cached(group))


def _rooms_v2(group: Group) -> list[Room]:
    """memory.max, at which the kernel kills, and memory.high, from which on it holds up."""
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
    """What is left of this process's own limits of address space (`ulimit -v`, `ulimit -d`)."""
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
    """Memory of this process that no file is behind: what it has touched of all that it asked."""
    return fields(read_text(root / "proc/self/status") or "").get("RssAnon", 0) * 1024


def least(kind: Literal["touched", "mapped"] = "touched", root: Path = ROOT) -> Room | None:
    """The limit of which the least is left; None where nothing tells."""
    return min((r for r in rooms(root) if r.kind == kind), key=lambda r: r.free, default=None)


def check_memory(
    what: str, size: int, *, beside: int = 0, here: bool = True, root: Path = ROOT
) -> None:
    """Raise `UsageError` where so many bytes can't be had without running out.

    beside: bytes that others will take, and that still look free. here: it is this process that
    will take them, so that its own limits of address space count as well.
    """
    for room in sorted(rooms(root), key=lambda room: room.free):
        if room.kind == "mapped" and not here:
            continue
        others = beside if room.kind == "touched" else 0
        if size + others > room.free:
            words = f" beside {rough(others)} that others will need" if others else ""
            raise UsageError(f"{what} does not fit: it needs {rough(size)}{words}, and {room}")
