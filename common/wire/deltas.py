"""The table of a DELTA frame: which pages, and how long each one's encoding is.

What an encoding is, `common.guest.delta` says; here are only its bounds.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.errors import RemoteProtocolError
from pageferry.common.units import PAGE_SIZE

DELTA_OF: Final = np.dtype([("page", "<u4"), ("length", "<u2")])
DeltaTable = NDArray[np.void]

MAX_DELTA_PAGES: Final = 4096  # of a frame
MAX_DELTA_BYTES: Final = 2**20  # of encodings in a frame


def check_header(entries: int, size: int) -> None:
    """Raise `RemoteProtocolError` for a header that no frame has. size: bytes behind the table."""
    if not (0 < entries <= MAX_DELTA_PAGES and 0 <= size <= MAX_DELTA_BYTES):
        raise RemoteProtocolError(f"a delta frame of {entries} pages and {size} bytes")


def table_of(body: bytes, n_pages: int, size: int) -> DeltaTable:
    """DELTA_OF[m], which must sum up to `size` bytes. Raises `RemoteProtocolError`."""
    table = np.frombuffer(body, DELTA_OF)
    last, longest = int(table["page"].max()), int(table["length"].max())
    if last >= n_pages or longest > PAGE_SIZE:
        raise RemoteProtocolError(
            f"deltas of up to {longest} bytes, of pages up to {last} of a guest of {n_pages} pages"
        )
    total = int(table["length"].sum(dtype=np.int64))
    if total != size:
        raise RemoteProtocolError(f"a delta frame that announces {total} bytes and carries {size}")
    return table
