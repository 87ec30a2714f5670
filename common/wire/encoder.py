"""Frames for whoever sends them: heads with their tables, trailers, and whole frames without pages.

What a head announces follows it, in the table's order, from wherever it is in memory; the trailer
(`trailer`, or `begin_checksum` and `end_checksum`) ends frames that are `checked`.
"""

from __future__ import annotations

import numpy as np
import xxhash

from pageferry.common.errors import LocalProtocolError
from pageferry.common.units import LINE_SIZE, PAGE_SIZE
from pageferry.common.wire.deltas import MAX_DELTA_BYTES, MAX_DELTA_PAGES, DeltaTable
from pageferry.common.wire.extents import Extents
from pageferry.common.wire.frames import (
    MAGIC,
    MAX_CONTROL,
    MAX_EXTENTS,
    MAX_FRAME_LINES,
    MAX_WINDOW,
    PREFACE,
    PROTOCOL_VERSION,
    FrameType,
    LineTable,
    count_lines,
)
from pageferry.common.wire.header import CHECKED, HEADER, TRAILER
from pageferry.common.wire.packing import Codec


def encode_preface(version: int = PROTOCOL_VERSION) -> bytes:
    """Return the first 16 bytes of each direction.

    Args:
        version: That it says.

    Returns:
        The preface.
    """
    return PREFACE.pack(MAGIC, version)


def begin_checksum(head: bytes) -> xxhash.xxh3_64:
    """Begin the checksum of a frame that is sent in parts.

    Args:
        head: Header and table, for a frame that is `checked`.

    Returns:
        What has to be updated with the rest of the body, for `end_checksum`.
    """
    return xxhash.xxh3_64(head)


def end_checksum(hasher: xxhash.xxh3_64) -> bytes:
    """Return the trailer of a frame that was sent in parts.

    Args:
        hasher: Updated with the whole frame.

    Returns:
        8 bytes.
    """
    return TRAILER.pack(hasher.intdigest())


def trailer(*parts: bytes | memoryview) -> bytes:
    """Return the trailer of a frame that is `checked`.

    Args:
        parts: Header and body, in order.

    Returns:
        8 bytes.
    """
    hasher = xxhash.xxh3_64()
    for part in parts:
        hasher.update(part)
    return end_checksum(hasher)


def _whole(frame: bytes, checked: bool) -> bytes:
    return frame + trailer(frame) if checked else frame


def encode_control(body: bytes) -> bytes:
    """Return a CONTROL frame; it is always checked.

    Args:
        body: One msgpack map.

    Returns:
        The whole frame.

    Raises:
        LocalProtocolError: If the body is larger than `MAX_CONTROL`.
    """
    if len(body) > MAX_CONTROL:
        raise LocalProtocolError(f"a control message of {len(body)} bytes is over {MAX_CONTROL}")
    return _whole(HEADER.pack(FrameType.CONTROL, CHECKED, 0, 0, len(body)) + body, True)


def encode_pages_head(extents: Extents, *, checked: bool = False) -> bytes:
    """Return the head of a PAGES frame; the pages follow, in the extents' order.

    Args:
        extents: EXTENT[m], m from 1 to `MAX_EXTENTS`.
        checked: A trailer will end the frame.

    Returns:
        Header and table.

    Raises:
        LocalProtocolError: If m is not in that range.
    """
    pages = _count(extents)
    table = extents.tobytes()
    length = len(table) + pages * PAGE_SIZE
    return HEADER.pack(FrameType.PAGES, checked, len(extents), 0, length) + table


def encode_zero(extents: Extents, *, checked: bool = False) -> bytes:
    """Return a ZERO frame.

    Args:
        extents: EXTENT[m], m from 1 to `MAX_EXTENTS`.
        checked: The frame gets a trailer.

    Returns:
        The whole frame.

    Raises:
        LocalProtocolError: If m is not in that range.
    """
    _count(extents)
    table = extents.tobytes()
    head = HEADER.pack(FrameType.ZERO, checked, len(extents), 0, len(table))
    return _whole(head + table, checked)


def encode_lines_head(table: LineTable, *, checked: bool = False) -> bytes:
    """Return the head of a LINES frame; the lines follow, in the table's order.

    Args:
        table: LINES_OF[m], at most `MAX_FRAME_LINES` lines.
        checked: A trailer will end the frame.

    Returns:
        Header and table.

    Raises:
        LocalProtocolError: If there are no lines, too many, or fewer than pages.
    """
    lines = count_lines(table)
    if not (0 < len(table) <= lines <= MAX_FRAME_LINES):
        raise LocalProtocolError(f"a frame of {lines} lines of {len(table)} pages")
    length = table.nbytes + lines * LINE_SIZE
    return HEADER.pack(FrameType.LINES, checked, len(table), 0, length) + table.tobytes()


def encode_barrier(index: int, *, checked: bool = False) -> bytes:
    """Return a BARRIER frame.

    Args:
        index: Of the round that ends with it.
        checked: The frame gets a trailer.

    Returns:
        The whole frame.
    """
    return _whole(HEADER.pack(FrameType.BARRIER, checked, 0, index, 0), checked)


def encode_request(page: int, window: int = 0, *, checked: bool = False) -> bytes:
    """Return a REQUEST frame.

    Args:
        page: That the guest waits for.
        window: How many pages behind it are wanted next, 0 to `MAX_WINDOW`.
        checked: The frame gets a trailer.

    Returns:
        The whole frame.

    Raises:
        LocalProtocolError: If the window is not in that range.
    """
    if not 0 <= window <= MAX_WINDOW:
        raise LocalProtocolError(f"a window of {window} pages, expected 0 to {MAX_WINDOW}")
    return _whole(HEADER.pack(FrameType.REQUEST, checked, window, page, 0), checked)


def encode_probe(attempt: int, number: int, *, checked: bool = False) -> bytes:
    """Return a PROBE frame.

    Args:
        attempt: The connection's.
        number: That the answer is to repeat, 0 to `MAX_NUMBER`.
        checked: The frame gets a trailer.

    Returns:
        The whole frame.
    """
    return _whole(HEADER.pack(FrameType.PROBE, checked, number, attempt, 0), checked)


def encode_answer(attempt: int, number: int, *, checked: bool = False) -> bytes:
    """Return an ANSWER frame.

    Args:
        attempt: The probe's.
        number: Likewise.
        checked: The frame gets a trailer.

    Returns:
        The whole frame.
    """
    return _whole(HEADER.pack(FrameType.ANSWER, checked, number, attempt, 0), checked)


def _count(extents: Extents) -> int:
    pages = int(extents["count"].sum(dtype=np.int64))
    if not 0 < len(extents) <= MAX_EXTENTS:
        raise LocalProtocolError(f"a frame of {len(extents)} extents, expected 1 to {MAX_EXTENTS}")
    return pages


def encode_packed_head(
    codec: Codec, kind: FrameType, table: Extents | LineTable, size: int, *, checked: bool = False
) -> bytes:
    """Return the head of a PACKED frame; the compressed payload follows.

    Args:
        codec: By which it is compressed.
        kind: PAGES or LINES, whose table it is.
        table: EXTENT[m] or LINES_OF[m].
        size: Bytes of the compressed payload.
        checked: A trailer will end the frame.

    Returns:
        Header and table.
    """
    value = codec | kind << 8
    head = HEADER.pack(FrameType.PACKED, checked, len(table), value, table.nbytes + size)
    return head + table.tobytes()


def encode_delta_head(table: DeltaTable, *, checked: bool = False) -> bytes:
    """Return the head of a DELTA frame; the encodings follow, in the table's order.

    Args:
        table: DELTA_OF[m], m from 1 to `MAX_DELTA_PAGES`.
        checked: A trailer will end the frame.

    Returns:
        Header and table.

    Raises:
        LocalProtocolError: If m is not in that range, or there are more than `MAX_DELTA_BYTES`.
    """
    size = int(table["length"].sum(dtype=np.int64))
    if not 0 < len(table) <= MAX_DELTA_PAGES or size > MAX_DELTA_BYTES:
        raise LocalProtocolError(f"a frame of {size} bytes of deltas of {len(table)} pages")
    head = HEADER.pack(FrameType.DELTA, checked, len(table), 0, table.nbytes + size)
    return head + table.tobytes()
