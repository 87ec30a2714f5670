"""Sets of pages as they travel: a bit a page, least significant bit first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.errors import RemoteProtocolError


def pack(pages: NDArray[np.bool_]) -> bytes:
    """bool[n_pages] to ceil(n_pages / 8) bytes."""
    return np.packbits(pages, bitorder="little").tobytes()


def popcount(data: bytes) -> int:
    """How many pages are in the set."""
    return int.from_bytes(data, "little").bit_count()


def unpack(data: bytes, n_pages: int) -> NDArray[np.bool_]:
    """And back. Raises `RemoteProtocolError` for a set that is not of a guest of this size."""
    if len(data) != (n_pages + 7) // 8:
        raise RemoteProtocolError(
            f"a set of pages of {len(data)} bytes does not fit a guest of {n_pages} pages"
        )
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    if bits[n_pages:].any():
        raise RemoteProtocolError("a set of pages with pages outside the guest")
    return bits[:n_pages].astype(np.bool_)
