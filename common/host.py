"""What this host can hold."""

from __future__ import annotations

from typing import Final

import psutil

from common.errors import UsageError
from common.units import format_size, human_bytes

OVERHEAD: Final = 1.05  # memory beside the guest's own: dirty logs and bookkeeping


def check_memory(memory: int, *, cache: int = 0, beside: int = 0) -> None:
    """Raise `UsageError` where a guest of so many bytes can't be had without running out.

    cache: bytes of its cache, which it takes, too. beside: bytes that others will take, and that
    are still counted as free.
    """
    free = max(psutil.virtual_memory().available - beside, 0)
    if (memory + cache) * OVERHEAD > free:
        raise UsageError(
            f"a guest of {format_size(memory)} does not fit: this host has {human_bytes(free)} free"
        )
