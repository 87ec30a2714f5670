"""Which control groups this process is in, and where their files are: cgroup v1, v2 and both.

A limit of any group above ours binds us as well, so the whole way up is looked for, as far as it is
visible: in a container it often ends at the container's own group. Formats: cgroups(7),
proc_pid_mountinfo(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

ROOT: Final = Path("/")
_UNLIMITED: Final = 2**60  # v1 writes "no limit" as the greatest number of whole pages
_DIGITS: Final = 20  # of 2**64
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class ControlGroup:
    """One control group.

    Attributes:
        path: Its name, as this process sees it.
        folder: Where its files are.
        version: Of its hierarchy.
    """

    path: str
    folder: Path
    version: Literal[1, 2]

    def text(self, name: str) -> str | None:
        """Read a file of the group.

        Args:
            name: The file's name, as in `memory.max`.

        Returns:
            Its content; None where there is none, or we may not read it.
        """
        return read_text(self.folder / name)

    def number(self, name: str) -> int | None:
        """Read a file that holds a number.

        Args:
            name: The file's name.

        Returns:
            The number; None: no such file, or no limit.
        """
        return _number(self.text(name))

    def fields(self, name: str) -> dict[str, int]:
        """Read a file of `name value` lines.

        Args:
            name: The file's name.

        Returns:
            See `fields`; empty where there is no such file.
        """
        return fields(self.text(name) or "")


@dataclass(frozen=True, slots=True)
class Membership:
    """A line of /proc/PID/cgroup.

    Attributes:
        controllers: Of the hierarchy; empty for version 2.
        path: The group that the process is in.
    """

    controllers: frozenset[str]
    path: str


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted hierarchy.

    Attributes:
        root: The group that is visible at `point`.
        point: The mount point.
        controllers: Of the hierarchy, among other mount options; empty for version 2.
        version: Of the hierarchy.
    """

    root: str
    point: str
    controllers: frozenset[str]
    version: Literal[1, 2]


def read_text(path: Path) -> str | None:
    """Read a small file.

    Args:
        path: Of /proc or of a control group.

    Returns:
        Its content; None where it can't be read.
    """
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None


def fields(text: str) -> dict[str, int]:
    """Parse `name value` or `name: value kB` lines.

    Args:
        text: The file's content.

    Returns:
        Values by name, without units; lines without a number are left out.
    """
    lines = (line.split() for line in text.splitlines())
    return {
        words[0].rstrip(":"): int(words[1])
        for words in lines
        if len(words) > 1 and is_number(words[1])
    }


def is_number(word: str) -> bool:
    """Check that a word is a number as the kernel writes it, and not too long to parse quickly.

    Args:
        word: A word of a file.

    Returns:
        Whether it is 1 to 20 decimal digits.
    """
    return word.isascii() and word.isdigit() and len(word) <= _DIGITS


def _number(text: str | None) -> int | None:
    word = (text or "").strip()
    if not is_number(word) or int(word) >= _UNLIMITED:
        return None
    return int(word)


def parse_memberships(text: str) -> list[Membership]:
    """Parse /proc/PID/cgroup: `number:controllers:path`, the path to the line's end.

    Args:
        text: The file's content.

    Returns:
        A membership per line that has this form, in order.
    """
    found = []
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if colon:
            found.append(Membership(frozenset(filter(None, controllers.split(","))), path))
    return found


def parse_mounts(text: str) -> list[Mount]:
    """Find the cgroup hierarchies among the lines of /proc/PID/mountinfo.

    Args:
        text: The file's content.

    Returns:
        The mounts, in order; a later one hides an earlier one at the same place.
    """
    found = []
    for line in text.splitlines():
        before, dash, after = line.partition(" - ")
        words, system = before.split(" "), after.split(" ")
        kind, options = system[0], system[-1]
        if not dash or len(words) < 6 or kind not in ("cgroup", "cgroup2"):
            continue
        root, point = _unescaped(words[3]), _unescaped(words[4])
        if kind == "cgroup2":
            found.append(Mount(root, point, frozenset(), 2))
        else:
            found.append(Mount(root, point, frozenset(options.split(",")), 1))
    return found


def _unescaped(word: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), word)


def groups(controller: str, root: Path = ROOT) -> list[ControlGroup]:
    """Find our group, then the one above it, and so on: all whose limits of a controller bind us.

    With version 2 all groups are given: one without the controller has none of its files.

    Args:
        controller: As in `memory`, `cpu` or `pids`.
        root: Where /proc and the mounts are looked for.

    Returns:
        Ours first; empty where none is visible.
    """
    mounts = parse_mounts(read_text(root / "proc/self/mountinfo") or "")
    found: list[ControlGroup] = []
    for member in parse_memberships(read_text(root / "proc/self/cgroup") or ""):
        if member.controllers and controller not in member.controllers:
            continue
        version = 1 if member.controllers else 2
        fitting = [
            mount
            for mount in mounts
            if mount.version == version and (version == 2 or controller in mount.controllers)
        ]
        found += _seen(member, fitting, root)
    return found


def _seen(member: Membership, mounts: list[Mount], root: Path) -> list[ControlGroup]:
    """Choose the mount that shows most of the way up; of two at one place the later one."""
    ways = [list(_way_up(member, mount, root)) for mount in reversed(mounts)]
    return max(ways, key=len, default=[])


def _way_up(member: Membership, mount: Mount, root: Path) -> Iterator[ControlGroup]:
    names = _below(mount.root, member.path)
    if names is None:
        return
    point = root / mount.point.lstrip("/")
    for depth in range(len(names), -1, -1):
        folder = point.joinpath(*names[:depth])
        if (folder / "cgroup.procs").exists():  # not on a mount that another one hides
            path = "/" + "/".join([*_parts(mount.root), *names[:depth]])
            yield ControlGroup(path, folder, mount.version)


def _below(top: str, path: str) -> list[str] | None:
    """List the names from one group down to another; None: that one is not below it.

    A namespace of control groups writes what is above its own root as `/..`: the names of those
    can't be known, but it can that they are above us.
    """
    above, below = _parts(top), _parts(path)
    if below[: len(above)] == above and ".." not in below[len(above) :]:
        return below[len(above) :]
    if above.count("..") == len(above) > below.count(".."):
        return []
    return None


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]
