"""Heads of PACKED and DELTA frames, for whoever sends them (the formats stand in `frames`)."""

from __future__ import annotations

import numpy as np

from pageferry.common.errors import LocalProtocolError
from pageferry.common.wire.deltas import MAX_DELTA_BYTES, MAX_DELTA_PAGES, DeltaTable
from pageferry.common.wire.extents import Extents
from pageferry.common.wire.frames import HEADER, FrameType, LineTable
from pageferry.common.wire.packing import Codec


def encode_packed_head(
    codec: Codec, kind: FrameType, table: Extents | LineTable, size: int, *, checked: bool = False
) -> bytes:
    """Header and table of a PACKED frame; the compressed payload of `size` bytes follows.

    kind: PAGES or LINES, whose table it is. checked: and then the `trailer`.
    """
    value = codec | kind << 8
    head = HEADER.pack(FrameType.PACKED, checked, len(table), value, table.nbytes + size)
    return head + table.tobytes()


def encode_delta_head(table: DeltaTable, *, checked: bool = False) -> bytes:
    """Header and table of a DELTA frame; the encodings follow, in the table's order.

    checked: and then the `trailer`.
    """
    size = int(table["length"].sum(dtype=np.int64))
    if not 0 < len(table) <= MAX_DELTA_PAGES or size > MAX_DELTA_BYTES:
        raise LocalProtocolError(f"a frame of {size} bytes of deltas of {len(table)} pages")
    head = HEADER.pack(FrameType.DELTA, checked, len(table), 0, table.nbytes + size)
    return head + table.tobytes()
