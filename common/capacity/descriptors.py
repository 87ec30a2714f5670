"""File descriptors: what `ulimit -n` leaves of them."""

from __future__ import annotations

import os
import resource

from pageferry.common.errors import UsageError


def descriptor_limit() -> int:
    """Read the soft limit of descriptors.

    Returns:
        A descriptor of this process is a number from 0 to below this.
    """
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def free_descriptors() -> int:
    """Count how many more descriptors can be opened.

    Returns:
        How many; where /proc can't be read, as if only three were open.
    """
    limit = descriptor_limit()
    try:
        names = os.listdir("/proc/self/fd")  # one of them is for listing this folder
    except OSError:
        return max(limit - 3, 0)
    return max(limit - (sum(int(name) < limit for name in names) - 1), 0)


def check_descriptors(what: str, more: int, *, beside: int = 0) -> None:
    """Check that this process can open so many more descriptors.

    Args:
        what: Who needs them, the subject of the message's sentence.
        more: How many are needed.
        beside: How many others will open that have not yet.

    Raises:
        UsageError: Fewer are free.
    """
    free = free_descriptors()
    if more + beside > free:
        others = f" beside {beside} that others will need" if beside else ""
        raise UsageError(
            f"{what} needs {more} file descriptors{others}, and {free} are free of this process's"
            f" {descriptor_limit()} (ulimit -n)"
        )


def check_children(what: str, each: int) -> None:
    """Check the same for processes that we start, each with a limit of its own that equals ours.

    Args:
        what: Who needs them, the subject of the message's sentence.
        each: How many a process needs in all.

    Raises:
        UsageError: The limit is lower.
    """
    if each > descriptor_limit():
        raise UsageError(
            f"{what} needs {each} file descriptors, and a process may have {descriptor_limit()}"
            " here (ulimit -n)"
        )
