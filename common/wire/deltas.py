"""The table of a DELTA frame: which pages, and how long each one's encoding is.

`common.guest.delta` defines the encoding; here are only its bounds.
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
    """Check what the header of a DELTA frame announces.

    Args:
        entries: Pages in its table.
        size: Bytes behind the table; negative where the body is shorter than the table.

    Raises:
        RemoteProtocolError: If no frame may have that.
    """
    if not (0 < entries <= MAX_DELTA_PAGES and 0 <= size <= MAX_DELTA_BYTES):
        raise RemoteProtocolError(f"a delta frame of {entries} pages and {size} bytes")


def table_of(body: bytes, n_pages: int, size: int) -> DeltaTable:
    """Return a DELTA frame's table, checked.

    Args:
        body: The table's bytes, as they came; not empty.
        n_pages: Pages of the guest.
        size: Bytes behind the table, to which the lengths must sum up.

    Returns:
        DELTA_OF[m], a view of `body`.

    Raises:
        RemoteProtocolError: If a page is outside the guest, or a length or their sum is wrong.
    """
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
