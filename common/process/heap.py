"""Memory of a process that lives long, and gives back what each of its tasks took."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from typing import Final

_M_ARENA_MAX: Final = -8  # of glibc's malloc.h
_libc = ctypes.CDLL(None)


def settle_down() -> None:
    """Call it once, when everything is imported and before the work begins.

    glibc gives threads heaps of their own, and those never shrink: a process that starts some
    threads for each task grows by fragments. One heap does, as big arrays are mapped anyway. And
    what was imported need not be looked at again by each `give_back`.
    """
    one_arena()
    gc.collect()
    gc.freeze()


def one_arena() -> None:
    """Let no thread have a heap of its own, which takes 64 MiB of address space at once."""
    with contextlib.suppress(AttributeError):  # another C library
        _libc.mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """A task has ended: what it left in reference cycles, and holes in the heap, are not kept.

    A view of guest memory in such a cycle keeps all of it mapped. Takes some milliseconds; nothing
    is done in a process that has not settled down, where it would take longer and help nobody.
    """
    if not gc.get_freeze_count():
        return
    gc.collect()
    with contextlib.suppress(AttributeError):
        _libc.malloc_trim(0)
