"""Memory of a process that lives long, and gives back what each of its tasks took."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from typing import Final

_M_ARENA_MAX: Final = -8  # of glibc's malloc.h
_libc = ctypes.CDLL(None)


def settle_down() -> None:
    """Prepare a long-lived process; call it once, after all imports and before the work begins.

    glibc gives threads heaps of their own, which never shrink: a process that starts some threads
    for each task grows by fragments. A single heap does shrink, as big arrays are mapped anyway.
    And `give_back` need not look again and again at what was imported.
    """
    one_arena()
    gc.collect()
    gc.freeze()


def one_arena() -> None:
    """Let no thread have a heap of its own, which takes 64 MiB of address space at once."""
    with contextlib.suppress(AttributeError):  # another C library
        _libc.mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Free what a task that has ended left in reference cycles, and holes in the heap.

    A view of guest memory in such a cycle keeps all of it mapped. This takes some milliseconds. In
    a process that has not settled down nothing is done, as it would take longer and help nobody.
    """
    if not gc.get_freeze_count():
        return
    gc.collect()
    with contextlib.suppress(AttributeError):
        _libc.malloc_trim(0)
