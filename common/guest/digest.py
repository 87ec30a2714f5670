"""The digest by which a guest at one end is compared with the same guest at the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import xxhash
from numpy.typing import NDArray

from pageferry.common.guest.memory import GuestMemory
from pageferry.common.units import PAGE_SIZE

_CHUNK: Final = 4 << 20  # bytes; the interpreter lock is free between two of them, and during each


def digest(
    memory: GuestMemory,
    registers: Sequence[NDArray[np.uint64]],
    pages: NDArray[np.bool_] | None = None,
) -> str:
    """Compute a digest of memory and registers.

    Args:
        memory: Nobody writes to it meanwhile.
        registers: uint64[STATE_WORDS] of each vCPU, in order.
        pages: bool[n_pages], those that count, in order; the others are not touched. None: all.

    Returns:
        xxh3_128, hexadecimal.
    """
    hasher = xxhash.xxh3_128()
    for first, end in _runs(memory.size // PAGE_SIZE, pages):
        for start in range(first * PAGE_SIZE, end * PAGE_SIZE, _CHUNK):
            hasher.update(memory.view[start : min(start + _CHUNK, end * PAGE_SIZE)])
    for state in registers:
        hasher.update(state.astype("<u8").tobytes())
    return str(hasher.hexdigest())


def _runs(n_pages: int, pages: NDArray[np.bool_] | None) -> list[list[int]]:
    """List the runs of pages that count: the first one's number, and that behind the last."""
    if pages is None:
        return [[0, n_pages]]
    edges = np.flatnonzero(np.diff(pages.astype(np.int8), prepend=0, append=0))
    runs: list[list[int]] = edges.reshape(-1, 2).tolist()
    return runs
