"""Memory of a process that lives long, and gives back what each of its tasks took."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from typing import Final

_M_ARENA_MAX: Final = -8  # of glibc's malloc.h


def settle_down() -> None:
    """Call it once, when everything is imported and before the work begins.

    glibc gives threads heaps of their own, and those never shrink: a process that starts some
    threads for each task grows by fragments. One heap does, as big arrays are mapped anyway. And
    what was imported need not be looked at again by each `gc.collect`.
    """
    with contextlib.suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
    gc.collect()
    gc.freeze()
