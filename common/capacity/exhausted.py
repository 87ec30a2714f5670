"""What an exception means, in words, if some resource of this host has run out."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Final

from pageferry.common.capacity.descriptors import descriptor_limit
from pageferry.common.capacity.memory import own_rooms, rooms
from pageferry.common.capacity.tasks import task_rooms

# What the loader and llvmlite report where a library could not be mapped.
_NOT_MAPPED: Final = (
    "failed to map segment",
    "cannot allocate memory",
    "Could not find/load shared",
)


def ran_out(error: BaseException) -> str | None:
    """Say what this process ran out of, and whose limit that is.

    Args:
        error: What was raised; its causes and contexts are looked at, too.

    Returns:
        The words; None: it failed for another reason.
    """
    for each in _with_causes(error):
        words = _words(each)
        if words is not None:
            return words
    return None


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        yield error
        seen.append(error)
        error = error.__cause__ or error.__context__


def _words(error: BaseException) -> str | None:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EMFILE:
        return f"out of file descriptors: this process may have {descriptor_limit()} (ulimit -n)"
    if number == errno.ENFILE:
        return "out of file descriptors: this machine has no more (fs.file-max)"
    if isinstance(error, BlockingIOError) or "can't start new thread" in str(error):
        return _no_more_tasks()
    unmapped = isinstance(error, OSError | ImportError) and any(
        each in str(error) for each in _NOT_MAPPED
    )
    if number == errno.ENOMEM or isinstance(error, MemoryError) or unmapped:
        return out_of_memory()
    return None


def out_of_memory() -> str:
    """Say that memory ran out, and under which limit there is the least left.

    Returns:
        The words, one line.
    """
    tightest = min(own_rooms() or rooms(), key=lambda room: room.free, default=None)
    return "out of memory" if tightest is None else f"out of memory: {tightest}"


def _no_more_tasks() -> str:
    tightest = min(task_rooms(), key=lambda room: room.free, default=None)
    room = min(own_rooms(), key=lambda each: each.free, default=None)
    where = tightest if tightest is not None else room  # a thread's stack takes address space
    return "no more threads can be started" + ("" if where is None else f": {where}")
