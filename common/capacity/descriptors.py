"""File descriptors: what `ulimit -n` leaves of them."""

from __future__ import annotations

import os
import resource

from pageferry.common.errors import UsageError


def descriptor_limit() -> int:
    """Numbers that a descriptor of this process may have: 0 to below it."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def free_descriptors() -> int:
    """How many more can be opened. Where /proc does not tell, as if only three were open."""
    limit = descriptor_limit()
    try:
        names = os.listdir("/proc/self/fd")  # one of them is of this very look
    except OSError:
        return max(limit - 3, 0)
    return max(limit - (sum(int(name) < limit for name in names) - 1), 0)


def check_descriptors(what: str, more: int, *, beside: int = 0) -> None:
    """Raise `UsageError` where so many can't be opened. beside: those that others will open."""
    free = free_descriptors()
    if more + beside > free:
        others = f" beside {beside} that others will need" if beside else ""
        raise UsageError(
            f"{what} needs {more} file descriptors{others}, and {free} are free of this process's"
            f" {descriptor_limit()} (ulimit -n)"
        )


def check_children(what: str, each: int) -> None:
    """Likewise for processes that we start, each with a limit of its own, as ours is."""
    if each > descriptor_limit():
        raise UsageError(
            f"{what} needs {each} file descriptors, and a process may have {descriptor_limit()}"
            " here (ulimit -n)"
        )
