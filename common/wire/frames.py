"""The frames of the stream: which there are, and how large they may be.

A connection opens with a preface from each side, `PREFACE` (16 bytes): magic, version, padding.
Then frames follow: a header (`common.wire.header`: type, flags, `entries`, `value`, `length` of the
body) and its body.

    CONTROL   body: one msgpack map
    PAGES     body: `entries` extents (first:u32 count:u32), then the pages of all of them
    ZERO      body: `entries` extents of pages that are all zero
    LINES     body: `entries` records (page:u32 mask:u64), then for each record, and in it for each
              bit of the mask from the lowest on, the 64 bytes of that line
    BARRIER   no body; `value` is the round that ends here
    REQUEST   no body; asks for page `value` at once, and then for the `entries` pages behind it
    PACKED    body: the table of a PAGES or LINES frame of so many `entries`, then the rest of that
              frame's body, compressed (`common.wire.packing`) and shorter by it; `value`: the
              codec, and in the next byte the other frame's type
    DELTA     body: `entries` records (page:u32 length:u16), then the XBZRLE encodings of all of
              them (`common.guest.delta`) against what the page held when its round began; a
              length of 0: it still holds that
    PROBE     no body; of attempt `value`, with the number `entries` (`common.wire.probes`)
    ANSWER    no body; answers that probe

PACKED and DELTA are legal only where both ends agreed on them, DELTA only before the guest resumes.
The lowest flag says that 8 bytes follow the body: XXH3-64 of header and body, little-endian. A
control connection's frames always have them, the others if both ends agreed on it: all frames of a
connection, or none.

The format's types and bounds are here; `encoder` makes frames, `decoder` takes them apart.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.units import LINE_SIZE, PAGE_SIZE
from pageferry.common.wire.deltas import DeltaTable
from pageferry.common.wire.extents import EXTENT, Extents
from pageferry.common.wire.probes import AnswerFrame, ProbeFrame

PROTOCOL_VERSION: Final = 5
# The newline shows, as in PNG's signature, whether something has taken the stream for text.
MAGIC: Final = b"pgferry\n"
PREFACE: Final = struct.Struct("<8sH6x")

# Readers and writers take at most IOV_MAX (1024) buffers a call; head and next header need two.
MAX_EXTENTS: Final = 1000
MAX_FRAME_PAGES: Final = 4096  # 16 MiB: what a receiver must be ready to take at once
MAX_URGENT_PAGES: Final = 32  # of a checked urgent frame, which has to wait until it is whole
MAX_FRAME_LINES: Final = 16384  # 1 MiB of them
MAX_CONTROL: Final = 8 * 2**20  # the events and the timeline of a long run
MAX_ROUND: Final = 2**32 - 1
MAX_WINDOW: Final = 2**16 - 1  # neighbours that a request may ask for

LINES_OF: Final = np.dtype([("page", "<u4"), ("mask", "<u8")])
LineTable = NDArray[np.void]
# With more changed lines than this, a whole page is no longer than a record with its lines.
MOST_LINES: Final = (PAGE_SIZE + EXTENT.itemsize - LINES_OF.itemsize - 1) // LINE_SIZE


class FrameType(IntEnum):
    """First byte of every frame."""

    CONTROL = 1
    PAGES = 2
    ZERO = 3
    BARRIER = 4
    REQUEST = 5
    LINES = 6
    PACKED = 7
    DELTA = 8
    PROBE = 9
    ANSWER = 10


@dataclass(frozen=True, slots=True)
class ControlFrame:
    """One control message.

    Attributes:
        body: msgpack.
    """

    body: bytes


@dataclass(frozen=True, slots=True)
class PagesFrame:
    """Pages that have arrived whole.

    Attributes:
        extents: EXTENT[m].
        pages: Their number.
    """

    extents: Extents
    pages: int


@dataclass(frozen=True, slots=True)
class ZeroFrame:
    """Pages that are all zero.

    Attributes:
        extents: EXTENT[m].
        pages: Their number.
    """

    extents: Extents
    pages: int


@dataclass(frozen=True, slots=True)
class LinesFrame:
    """Lines of pages that have changed.

    Attributes:
        table: LINES_OF[m].
        lines: Their number.
        data: uint8[64 * lines], valid until the decoder is told of further bytes.
    """

    table: LineTable
    lines: int
    data: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class DeltaFrame:
    """Pages that have changed, as encoded.

    Attributes:
        table: DELTA_OF[m].
        data: uint8[n], n the sum of the table's lengths; valid until the decoder is told of further
            bytes.
    """

    table: DeltaTable
    data: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class BarrierFrame:
    """The end of a round on this channel.

    Attributes:
        index: Of the round, of which nothing follows.
    """

    index: int


@dataclass(frozen=True, slots=True)
class RequestFrame:
    """A page fault's request: the guest waits for a page.

    Attributes:
        page: Its number.
        window: How many pages behind it the guest may soon want.
    """

    page: int
    window: int


Frame = (
    ControlFrame
    | PagesFrame
    | ZeroFrame
    | LinesFrame
    | DeltaFrame
    | BarrierFrame
    | RequestFrame
    | ProbeFrame
    | AnswerFrame
)


def count_lines(table: LineTable) -> int:
    """Return how many lines a table announces.

    Args:
        table: LINES_OF[m].

    Returns:
        The number of bits set in all masks.
    """
    return int(np.bitwise_count(table["mask"]).sum(dtype=np.int64))
