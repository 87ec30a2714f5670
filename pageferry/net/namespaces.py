"""Two network namespaces, which must never be left behind.

They are `pageferry-NAME-src` and `pageferry-NAME-dst`, where `ip netns` sees them. The name is the
claim: whoever makes the first of the two owns the network of that name, and nobody else can make
it.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from pathlib import Path
from typing import Final, Literal

from pageferry.common.command_line import libraries
from pageferry.common.errors import PageferryError, UsageError
from pageferry.net.enter import FOLDER, inside

End = Literal["src", "dst"]
ENDS: Final[tuple[End, End]] = ("src", "dst")
ADDRESS: Final[dict[str, str]] = {"src": "10.77.0.1", "dst": "10.77.0.2"}
PREFIX_LENGTH: Final = 30
DEVICE: Final = "link0"  # in either namespace
_PREFIX: Final = "pageferry-"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_PATIENCE_S: Final = 3.0  # what still runs in a namespace is given this long to end


def checked_name(name: str) -> str:
    """Check the name of a network.

    Args:
        name: What the user wrote.

    Returns:
        The same name.

    Raises:
        UsageError: It is no name: 1 to 32 of a-z, 0-9 and -, not beginning with -.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"--name: {name!r} is not a name: expected up to 32 of a-z, 0-9 and -, as in lab-1"
        )
    return name


def namespace(name: str, end: End) -> str:
    """Build the name of a network's namespace.

    Args:
        name: Name of the network.
        end: Which of the two: `src` or `dst`.

    Returns:
        Its name, as `ip netns` lists it.
    """
    return f"{_PREFIX}{name}-{end}"


def require_namespaces(what: str) -> None:
    """Check that namespaces can be made at all.

    Args:
        what: What needs them, for the message.

    Raises:
        UsageError: We are not root, or pyroute2 is not installed.
    """
    if os.geteuid() != 0:
        raise UsageError(
            f"{what} needs root, for network namespaces: migrate --link relay shapes without"
        )
    libraries.require_library(what, "pyroute2")


def found() -> list[str]:
    """List all networks that have a namespace.

    Returns:
        Their names, sorted.
    """
    names = set()
    with contextlib.suppress(OSError):
        for entry in os.listdir(FOLDER):
            stem, dash, end = entry.rpartition("-")
            if dash and end in ENDS and stem.startswith(_PREFIX):
                names.add(stem.removeprefix(_PREFIX))
    return sorted(names)


def make(name: str) -> None:
    """Make both namespaces of a network.

    Args:
        name: Name of the network, which claims it.

    Raises:
        UsageError: A network of that name is there already.
        PageferryError: They can't be made; nothing is left of them.
    """
    from pyroute2 import netns

    made: list[str] = []
    try:
        for end in ENDS:
            try:
                netns.create(namespace(name, end))
            except FileExistsError:
                raise UsageError(
                    f"the network {name} is there already: pageferry net down --name {name}"
                ) from None
            made.append(namespace(name, end))
            inside(namespace(name, end), _forget_nothing)
    except OSError as error:
        _remove_files(made)
        raise PageferryError(f"can't make a network namespace: {error.strerror}") from None
    except BaseException:
        _remove_files(made)
        raise


def _forget_nothing() -> None:
    """Keep what one connection learned (where its slow start ended) away from the next one."""
    with contextlib.suppress(OSError):  # read-only in some containers
        Path("/proc/sys/net/ipv4/tcp_no_metrics_save").write_text("1")


def _remove_files(namespaces: list[str]) -> None:
    from pyroute2 import netns

    for each in namespaces:
        with contextlib.suppress(OSError):
            netns.remove(each)


def pids_in(name: str) -> list[int]:
    """List the processes whose first thread is in one of a network's namespaces.

    Args:
        name: Name of the network.

    Returns:
        Their PIDs; empty where the network is not there.
    """
    wanted = set()
    for end in ENDS:
        with contextlib.suppress(OSError):
            status = os.stat(f"{FOLDER}/{namespace(name, end)}")
            wanted.add((status.st_dev, status.st_ino))
    pids = []
    for entry in os.listdir("/proc") if wanted else ():
        with contextlib.suppress(OSError):
            status = os.stat(f"/proc/{entry}/ns/net")
            if (status.st_dev, status.st_ino) in wanted and entry.isdigit():
                pids.append(int(entry))
    return pids


def remove(name: str) -> bool:
    """End what runs in a network's namespaces, then remove both, with all devices in them.

    Args:
        name: Name of the network.

    Returns:
        Whether there were any.
    """
    there = [each for end in ENDS if os.path.exists(f"{FOLDER}/{(each := namespace(name, end))}")]
    for number in (signal.SIGTERM, signal.SIGKILL):
        pids = pids_in(name)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + _PATIENCE_S
        while pids and pids_in(name) and time.monotonic() < deadline:
            time.sleep(0.02)
    _remove_files(there)
    return bool(there)
