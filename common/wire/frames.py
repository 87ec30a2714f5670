"""The codec of the stream, without IO.

A connection opens with a preface of each side, `PREFACE` (16 bytes): magic, version, padding. Then
frames follow, a header of 16 bytes each, little-endian:

    type:u8  flags:u8  entries:u16  value:u32  length:u64   then `length` bytes of body

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
control connection's frames always have them, the others if both ends agreed on it; all or none of a
connection.

The decoder owns no page memory. It asks a `Placer` for the buffers of the extents that a header
announces, and hands them to whoever reads the socket (`buffers`), so that page bytes go from the
socket to their place and nowhere else. All that comes from the wire is checked against the
negotiated guest before it is used, and no frame is handed out before its checksum has been seen to
be right; what is not raises `RemoteProtocolError` and the decoder takes no further bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

from pageferry.common.errors import CorruptFrame, LocalProtocolError, RemoteProtocolError
from pageferry.common.units import LINE_SIZE, PAGE_SIZE
from pageferry.common.wire import deltas
from pageferry.common.wire.budget import SMALL_BYTES, Share
from pageferry.common.wire.deltas import DELTA_OF, DeltaTable
from pageferry.common.wire.extents import EXTENT, Extents, count_within
from pageferry.common.wire.packing import MAX_UNPACKED, Unpacker, check_size, spread
from pageferry.common.wire.probes import AnswerFrame, ProbeFrame
from pageferry.common.wire.spans import Spans, SpanTable

PROTOCOL_VERSION: Final = 5
# The newline is mangled by anything that takes the stream for text, as PNG's signature shows it.
MAGIC: Final = b"pgferry\n"
PREFACE: Final = struct.Struct("<8sH6x")
HEADER: Final = struct.Struct("<BBHIQ")
TRAILER: Final = struct.Struct("<Q")
CHECKED: Final = 1  # flag: a trailer follows

# Readers and writers take at most IOV_MAX (1024) buffers a call; head and next header need two.
MAX_EXTENTS: Final = 1000
MAX_FRAME_PAGES: Final = 4096  # 16 MiB: what a receiver must be ready to take at once
MAX_URGENT_PAGES: Final = 32  # of a checked frame on an urgent connection: it waits to be whole
MAX_FRAME_LINES: Final = 16384  # 1 MiB of them
MAX_CONTROL: Final = 8 * 2**20  # the events and the timeline of a long run
_FIRST_PART: Final = 64 * 1024  # of a body; the next one may be as long as all before it
MAX_ROUND: Final = 2**32 - 1
MAX_WINDOW: Final = 2**16 - 1  # neighbours that a request may ask for

LINES_OF: Final = np.dtype([("page", "<u4"), ("mask", "<u8")])
LineTable = NDArray[np.void]
# With more changed lines than this a page is no longer than its record.
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
    """One control message. body: msgpack."""

    body: bytes


@dataclass(frozen=True, slots=True)
class PagesFrame:
    """These pages have arrived whole. extents: EXTENT[m]; pages: their number."""

    extents: Extents
    pages: int


@dataclass(frozen=True, slots=True)
class ZeroFrame:
    """These pages are all zero. extents: EXTENT[m]; pages: their number."""

    extents: Extents
    pages: int


@dataclass(frozen=True, slots=True)
class LinesFrame:
    """These lines of these pages have changed. table: LINES_OF[m]; lines: their number.

    data: uint8[64 * lines], valid until the decoder is told of further bytes.
    """

    table: LineTable
    lines: int
    data: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class DeltaFrame:
    """These pages have changed as encoded. table: DELTA_OF[m]; data: uint8, what they sum up to.

    data is valid until the decoder is told of further bytes.
    """

    table: DeltaTable
    data: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _PackedFrame:
    """What a PACKED frame has brought, before it is unpacked. data: valid as long as theirs."""

    kind: FrameType
    table: NDArray[np.void]
    entries: int  # pages, or lines
    data: memoryview


@dataclass(frozen=True, slots=True)
class BarrierFrame:
    """Nothing of round `index` follows on this channel."""

    index: int


@dataclass(frozen=True, slots=True)
class RequestFrame:
    """The guest waits for `page`, and may soon want the `window` pages behind it."""

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

_KINDS: Final = frozenset(FrameType)
_NAMES: Final[dict[type, str]] = {
    ControlFrame: "control",
    PagesFrame: "pages",
    ZeroFrame: "zero pages",
    LinesFrame: "lines",
    DeltaFrame: "deltas",
    _PackedFrame: "compressed pages",
    BarrierFrame: "a barrier",
    RequestFrame: "a request",
    ProbeFrame: "a probe",
    AnswerFrame: "an answer",
}


class Placer(Protocol):
    """Who knows where page bytes belong."""

    def buffers(self, extents: Extents) -> list[memoryview]:
        """Writable buffers for these pages, in this order, all together of exactly their size."""
        ...


def encode_preface(version: int = PROTOCOL_VERSION) -> bytes:
    """The first 16 bytes of each direction."""
    return PREFACE.pack(MAGIC, version)


def check_preface(data: bytes) -> None:
    """Raise `RemoteProtocolError` unless these 16 bytes open a stream of our version."""
    if data[: len(MAGIC)] != MAGIC:
        raise RemoteProtocolError(f"the peer is not a pageferry agent: it began with {data[:16]!r}")
    version = PREFACE.unpack(data)[1]
    if version != PROTOCOL_VERSION:
        raise RemoteProtocolError(
            f"protocol version mismatch: the peer speaks version {version},"
            f" this agent speaks version {PROTOCOL_VERSION}"
        )


def begin_checksum(head: bytes) -> xxhash.xxh3_64:
    """The checksum of a frame that is marked as `checked` and begins so; the rest updates it."""
    return xxhash.xxh3_64(head)


def end_checksum(hasher: xxhash.xxh3_64) -> bytes:
    """What ends the frame: its trailer."""
    return TRAILER.pack(hasher.intdigest())


def trailer(*parts: bytes | memoryview) -> bytes:
    """What ends a frame that consists of these parts and is marked as `checked`."""
    hasher = xxhash.xxh3_64()
    for part in parts:
        hasher.update(part)
    return end_checksum(hasher)


def _whole(frame: bytes, checked: bool) -> bytes:
    return frame + trailer(frame) if checked else frame


def encode_control(body: bytes) -> bytes:
    """One msgpack map as a frame, which is always checked."""
    if len(body) > MAX_CONTROL:
        raise LocalProtocolError(f"a control message of {len(body)} bytes is over {MAX_CONTROL}")
    return _whole(HEADER.pack(FrameType.CONTROL, CHECKED, 0, 0, len(body)) + body, True)


def encode_pages_head(extents: Extents, *, checked: bool = False) -> bytes:
    """Header and table of a PAGES frame; the pages themselves follow, in the extents' order.

    checked: and then the `trailer`.
    """
    pages = _count(extents)
    table = extents.tobytes()
    length = len(table) + pages * PAGE_SIZE
    return HEADER.pack(FrameType.PAGES, checked, len(extents), 0, length) + table


def encode_zero(extents: Extents, *, checked: bool = False) -> bytes:
    """A ZERO frame, whole."""
    table = extents.tobytes()
    head = HEADER.pack(FrameType.ZERO, checked, len(extents), 0, len(table))
    return _whole(head + table, checked)


def encode_lines_head(table: LineTable, *, checked: bool = False) -> bytes:
    """Header and table of a LINES frame; the lines themselves follow, in the table's order.

    checked: and then the `trailer`.
    """
    lines = count_lines(table)
    if not (0 < len(table) <= lines <= MAX_FRAME_LINES):
        raise LocalProtocolError(f"a frame of {lines} lines of {len(table)} pages")
    length = table.nbytes + lines * LINE_SIZE
    return HEADER.pack(FrameType.LINES, checked, len(table), 0, length) + table.tobytes()


def count_lines(table: LineTable) -> int:
    """Lines that a table announces."""
    return int(np.bitwise_count(table["mask"]).sum(dtype=np.int64))


def encode_barrier(index: int, *, checked: bool = False) -> bytes:
    """A BARRIER frame, whole."""
    return _whole(HEADER.pack(FrameType.BARRIER, checked, 0, index, 0), checked)


def encode_request(page: int, window: int = 0, *, checked: bool = False) -> bytes:
    """A REQUEST frame, whole."""
    if not 0 <= window <= MAX_WINDOW:
        raise LocalProtocolError(f"a window of {window} pages, expected 0 to {MAX_WINDOW}")
    return _whole(HEADER.pack(FrameType.REQUEST, checked, window, page, 0), checked)


def encode_probe(attempt: int, number: int, *, checked: bool = False) -> bytes:
    """A PROBE frame, whole."""
    return _whole(HEADER.pack(FrameType.PROBE, checked, number, attempt, 0), checked)


def encode_answer(attempt: int, number: int, *, checked: bool = False) -> bytes:
    """An ANSWER frame, whole."""
    return _whole(HEADER.pack(FrameType.ANSWER, checked, number, attempt, 0), checked)


def _count(extents: Extents) -> int:
    pages = int(extents["count"].sum(dtype=np.int64))
    if not 0 < len(extents) <= MAX_EXTENTS:
        raise LocalProtocolError(f"a frame of {len(extents)} extents, expected 1 to {MAX_EXTENTS}")
    return pages


class FrameDecoder:
    """Bytes in, frames out.

    Read into `buffers()` (all of them in one call where the socket can), then tell `received(n)`
    how many bytes came; it returns the frames that are whole. `n_pages` is the guest's size;
    with no placer (a control connection) page frames are illegal. Requests are legal only where
    `requests` says so: at the source, on the connection that answers them. checked: whether frames
    that are not of control have checksums. unpacker: PACKED frames are legal, and arrive as what
    is in them. deltas_agreed: DELTA frames are, too. attempt: the connection's, whose probes are
    legal; None: there are none. It may be changed between two frames, and so may most_control, the
    bytes of a control message (0: there are none). places: where pages of frames without a checksum
    may go directly, or None for the placer's buffers; whoever reads must look at `spans` then.
    share: from which the buffers of large frames draw, which may wait.
    """

    def __init__(
        self,
        placer: Placer | None = None,
        *,
        n_pages: int = 0,
        requests: bool = False,
        checked: bool = False,
        unpacker: Unpacker | None = None,
        deltas_agreed: bool = False,
        attempt: int | None = None,
        places: Callable[[Extents], SpanTable | None] | None = None,
        share: Share | None = None,
    ) -> None:
        self.most_control = MAX_CONTROL
        self._share = share
        self._due = 0  # bytes of a body's next part, whose buffer is not there yet
        self.attempt = attempt
        self._places = None if checked else places
        self._spans: Spans | None = None
        self._unpacker = unpacker
        self._deltas = deltas_agreed
        self._packed: FrameType | None = None  # the type of what is in a PACKED frame
        self._placer = placer
        self._n_pages = n_pages
        self._requests = requests
        self._checked = checked
        self._hasher: xxhash.xxh3_64 | None = None  # of the frame that is being read
        self._unchecked: Frame | _PackedFrame | None = None  # it is whole but for its trailer
        self._trailer = bytearray(TRAILER.size)
        self._header = bytearray(HEADER.size)
        self._body: list[bytearray] = []
        self._body_left = 0  # bytes of it for which there is no buffer yet
        self._type: FrameType | None = None  # of the frame whose body is being read
        self._value = 0
        self._extents: Extents | None = None
        self._table: LineTable | None = None
        self._pages = 0  # that the header announces; lines of a LINES frame, bytes of a DELTA frame
        self._line_data = np.empty(0, np.uint8)
        self._payload = np.empty(0, np.uint8)  # of PACKED and DELTA frames
        self._payload_size = 0
        # The buffers that are still to be filled, in order. While a payload is read, the trailer's
        # and the next header's buffers stand behind it: one system call less a frame.
        self._wanted: list[memoryview] = [memoryview(self._header)]
        self._left = HEADER.size  # bytes of the present part, the next header not counted
        self._broken: RemoteProtocolError | None = None

    @property
    def at_boundary(self) -> bool:
        """True between frames: a connection may end here without cutting one."""
        return self._type is None and len(self._wanted[0]) == HEADER.size

    def buffers(self) -> list[memoryview]:
        """Where the next bytes belong; never empty."""
        if self._broken:
            raise self._broken
        if self._due:
            self._body.append(bytearray(self._due))
            self._wanted = [memoryview(self._body[-1])]
            self._due = 0
        return self._wanted

    @property
    def due(self) -> int:
        """Bytes that `buffers` is about to take for a body."""
        return self._due

    @property
    def held(self) -> int:
        """Bytes of a body that have come."""
        return sum(map(len, self._body))

    @property
    def spans(self) -> Spans | None:
        """Where the next bytes belong instead, if `places` has said so."""
        if self._broken:
            raise self._broken
        return self._spans

    def received(self, n: int) -> list[Frame]:
        """`n` bytes have been written to the front of `buffers()`, or of `spans`."""
        out: list[Frame] = []
        try:
            while n:
                part = min(n, self._left)
                self._consume(part)
                n -= part
                if self._left == 0:
                    frame = self._part_done()
                    if frame is not None:
                        out.append(frame)
        except RemoteProtocolError as error:
            self._broken = error
            raise
        return out

    def _consume(self, n: int) -> None:
        self._left -= n
        if self._spans is not None:
            self._spans.advance(n)
            return
        whole = 0
        hasher = self._hasher if self._unchecked is None else None
        for buffer in self._wanted:
            if n < len(buffer):
                break
            if hasher is not None:
                hasher.update(buffer)
            n -= len(buffer)
            whole += 1
        del self._wanted[:whole]
        if n:
            if hasher is not None:
                hasher.update(self._wanted[0][:n])
            self._wanted[0] = self._wanted[0][n:]

    def _part_done(self) -> Frame | None:
        """A header, a table, a body or a payload is complete."""
        if self._unchecked is not None:
            return self._trailer_done(self._unchecked)
        if self._type is None:
            return self._header_done()
        return self._body_done()

    def _body_done(self) -> Frame | None:
        if self._body_left:
            return self._read_on()
        if self._type is FrameType.CONTROL:
            return self._finish(ControlFrame(b"".join(self._body)))
        if self._type in (FrameType.PACKED, FrameType.DELTA):
            return self._packed_body_done()
        if self._extents is not None:
            return self._finish(PagesFrame(self._extents, self._pages))
        if self._table is not None:
            data = self._line_data[: self._pages * LINE_SIZE]
            return self._finish(LinesFrame(self._table, self._pages, data))
        return self._lines_table_done() if self._type is FrameType.LINES else self._table_done()

    def _header_done(self) -> Frame | None:
        kind, flags, entries, self._value, length = HEADER.unpack(self._header)
        if kind not in _KINDS:
            raise RemoteProtocolError(f"a frame of unknown type {kind}")
        wanted = CHECKED if self._checked or kind == FrameType.CONTROL else 0
        if flags != wanted:
            raise RemoteProtocolError(f"a frame with flags {flags:#x}, expected {wanted:#x}")
        self._hasher = xxhash.xxh3_64(self._header) if flags else None
        if kind == FrameType.BARRIER:
            if length or entries:
                raise RemoteProtocolError("a barrier with a body")
            return self._finish(BarrierFrame(self._value))
        if kind == FrameType.REQUEST:
            return self._request(entries, length)
        if kind in (FrameType.PROBE, FrameType.ANSWER):
            return self._probe(FrameType(kind), entries, length)
        if kind == FrameType.CONTROL:
            self._check_control_header(entries, length)
        elif kind in (FrameType.PAGES, FrameType.ZERO):
            self._check_page_header(kind, entries, length)
            length = entries * EXTENT.itemsize
        elif kind == FrameType.PACKED:
            length = self._check_packed_header(entries, length)
        elif kind == FrameType.DELTA:
            self._check_delta_header(entries, length)
            length = entries * DELTA_OF.itemsize
        else:
            self._check_lines_header(entries, length)
            length = entries * LINES_OF.itemsize
        self._type = FrameType(kind)
        self._read_body(length)
        return None

    def _check_control_header(self, entries: int, length: int) -> None:
        if not self.most_control:
            raise RemoteProtocolError("a control message on a bulk channel")
        if entries or not 0 < length <= self.most_control:
            raise RemoteProtocolError(
                f"a control message of {length} bytes, expected 1 to {self.most_control}"
            )

    def _request(self, window: int, length: int) -> Frame | None:
        if not self._requests:
            raise RemoteProtocolError("a request for a page on a connection that serves none")
        if length or self._value >= self._n_pages:
            raise RemoteProtocolError(
                f"a request of {length} bytes for page {self._value}"
                f" of a guest of {self._n_pages} pages"
            )
        return self._finish(RequestFrame(self._value, window))

    def _probe(self, kind: FrameType, number: int, length: int) -> Frame | None:
        if length or self._value != self.attempt:
            due = "none is due" if self.attempt is None else f"expected attempt {self.attempt}"
            raise RemoteProtocolError(
                f"a probe of {length} bytes, of attempt {self._value}, where {due}"
            )
        frame = ProbeFrame if kind is FrameType.PROBE else AnswerFrame
        return self._finish(frame(self._value, number))

    def _check_page_header(self, kind: int, entries: int, length: int) -> None:
        if self._placer is None:
            raise RemoteProtocolError("guest pages on a connection that carries none")
        if not 0 < entries <= MAX_EXTENTS:
            raise RemoteProtocolError(f"a frame of {entries} extents, expected 1 to {MAX_EXTENTS}")
        payload = length - entries * EXTENT.itemsize
        pages = payload // PAGE_SIZE
        most = MAX_FRAME_PAGES if kind == FrameType.PAGES else 0
        if payload < 0 or payload % PAGE_SIZE or pages > most:
            raise RemoteProtocolError(f"a page frame of {length} bytes with {entries} extents")
        self._pages = pages

    def _check_lines_header(self, entries: int, length: int) -> None:
        if self._placer is None:
            raise RemoteProtocolError("lines of guest pages on a connection that carries none")
        payload = length - entries * LINES_OF.itemsize
        lines = payload // LINE_SIZE
        if payload % LINE_SIZE or not 0 < entries <= lines <= MAX_FRAME_LINES:
            raise RemoteProtocolError(f"a lines frame of {length} bytes with {entries} entries")
        self._pages = lines

    def _check_packed_header(self, entries: int, length: int) -> int:
        """Bytes of its table; how long the payload may be is known when that has come."""
        codec, kind = self._value & 0xFF, self._value >> 8
        if self._placer is None or self._unpacker is None or codec != self._unpacker.codec:
            raise RemoteProtocolError(f"a frame compressed by codec {codec}, which was not agreed")
        if kind not in (FrameType.PAGES, FrameType.LINES):
            raise RemoteProtocolError(f"a compressed frame of type {kind}")
        by_line = kind == FrameType.LINES
        table = entries * (LINES_OF if by_line else EXTENT).itemsize
        most = MAX_FRAME_LINES if by_line else MAX_EXTENTS
        self._payload_size = length - table
        if not (0 < entries <= most and 0 < self._payload_size < MAX_UNPACKED):
            raise RemoteProtocolError(f"a packed frame of {length} bytes, {entries} entries")
        self._packed = FrameType(kind)
        return table

    def _check_delta_header(self, entries: int, length: int) -> None:
        if self._placer is None or not self._deltas:
            raise RemoteProtocolError("a delta of pages, which was not agreed")
        self._payload_size = length - entries * DELTA_OF.itemsize
        deltas.check_header(entries, self._payload_size)

    def _packed_body_done(self) -> Frame | None:
        if self._table is None:
            return self._packed_table_done()
        table, data = self._table, self._payload[: self._payload_size]
        if self._type is FrameType.DELTA:
            return self._finish(DeltaFrame(table, data))
        assert self._packed is not None  # noqa: S101 - the header named it
        return self._finish(_PackedFrame(self._packed, table, self._pages, data.data))

    def _packed_table_done(self) -> Frame | None:
        """The table of a PACKED or DELTA frame: now it is known what the payload must be."""
        body = b"".join(self._body)
        if self._type is FrameType.DELTA:
            self._table = deltas.table_of(body, self._n_pages, self._payload_size)
            if self._payload_size == 0:
                return self._packed_body_done()
        elif self._packed is FrameType.LINES:
            self._table = np.frombuffer(body, LINES_OF)
            self._pages = self._checked_lines(self._table)
            check_size(self._payload_size, self._pages * LINE_SIZE)
        else:
            self._table = np.frombuffer(body, EXTENT)
            self._pages = count_within(self._table, self._n_pages)
            check_size(self._payload_size, self._pages * PAGE_SIZE)
            unpacked = self._pages * PAGE_SIZE
            if self._share is not None and unpacked > SMALL_BYTES:  # once more where it is placed
                self._share.take(self._payload_size + 2 * unpacked)
        if len(self._payload) < self._payload_size:  # kept: fresh memory costs more than its use
            self._payload = np.empty(1 << (self._payload_size - 1).bit_length(), np.uint8)
        self._left = self._payload_size
        self._wanted = [self._payload.data[: self._left], *self._tail()]
        return None

    def _unpacked(self, frame: Frame | _PackedFrame) -> Frame:
        """What is in it; only when its checksum has been seen to be right."""
        if not isinstance(frame, _PackedFrame):
            return frame
        assert self._placer is not None  # noqa: S101 - the header was refused otherwise
        assert self._unpacker is not None  # noqa: S101 - likewise
        if frame.kind is FrameType.LINES:
            # Copied: to compiled code read-only memory is of another kind, and the code for that
            # would be compiled or loaded here, which with few lines left is in the downtime.
            data = self._unpacker.unpack(frame.data, frame.entries * LINE_SIZE)
            room = self._line_room(len(data))
            room[:] = data
            return LinesFrame(frame.table, frame.entries, room)
        data = self._unpacker.unpack(frame.data, frame.entries * PAGE_SIZE)
        if len(self._payload) > SMALL_BYTES:
            self._payload = np.empty(0, np.uint8)
        spread(data, self._placer.buffers(frame.table))
        return PagesFrame(frame.table, frame.entries)

    def _checked_lines(self, table: LineTable) -> int:
        """Lines of a table whose pages are the guest's."""
        last = int(table["page"].max())
        if last >= self._n_pages:
            raise RemoteProtocolError(f"lines of page {last} of a guest of {self._n_pages} pages")
        if not table["mask"].all():
            raise RemoteProtocolError("a lines frame with a page of which no line comes")
        return count_lines(table)

    def _lines_table_done(self) -> Frame | None:
        table = np.frombuffer(b"".join(self._body), LINES_OF)
        lines = self._checked_lines(table)
        if lines != self._pages:
            raise RemoteProtocolError(
                f"a lines frame that announces {lines} lines and carries {self._pages}"
            )
        self._table = table
        self._left = self._pages * LINE_SIZE
        self._wanted = [self._line_room(self._left).data, *self._tail()]
        return None

    def _line_room(self, n: int) -> NDArray[np.uint8]:
        """For `n` bytes of lines; kept from frame to frame. Most connections never need it."""
        if len(self._line_data) < n:
            self._line_data = np.empty(max(n, MAX_FRAME_LINES * LINE_SIZE), np.uint8)
        return self._line_data[:n]

    def _read_body(self, length: int) -> None:
        self._body = []
        self._body_left = length
        self._read_on()

    def _read_on(self) -> Frame | None:
        """The next part of a body: what a header announces is only taken as it comes."""
        part = min(self._body_left, max(sum(map(len, self._body)), _FIRST_PART))
        self._body_left -= part
        self._due = self._left = part
        self._wanted = []
        return None

    def _table_done(self) -> Frame | None:
        assert self._placer is not None  # noqa: S101 - the header was refused otherwise
        extents = np.frombuffer(b"".join(self._body), EXTENT)
        total = count_within(extents, self._n_pages)
        if self._type is FrameType.ZERO:
            return self._finish(ZeroFrame(extents, total))
        if total != self._pages:
            raise RemoteProtocolError(
                f"a page frame that announces {total} pages and carries {self._pages}"
            )
        self._extents = extents
        self._left = total * PAGE_SIZE
        table = None if self._places is None else self._places(extents)
        if table is not None:
            self._spans = Spans(table)
        else:
            self._wanted = [*self._placer.buffers(extents), *self._tail()]
        return None

    def _tail(self) -> list[memoryview]:
        """What comes behind a payload."""
        header = memoryview(self._header)
        return [header] if self._hasher is None else [memoryview(self._trailer), header]

    def _finish(self, frame: Frame | _PackedFrame) -> Frame | None:
        # After a payload the buffers of the tail are already at the front, whole.
        self._type = None
        self._body = []
        self._extents = self._table = self._spans = None
        self._wanted = self._tail()
        self._left = len(self._wanted[0])
        if self._hasher is None:
            return self._unpacked(frame)
        self._unchecked = frame
        return None

    def _trailer_done(self, frame: Frame | _PackedFrame) -> Frame:
        assert self._hasher is not None  # noqa: S101
        if TRAILER.unpack(self._trailer)[0] != self._hasher.intdigest():
            name = _NAMES[type(frame)]
            raise CorruptFrame(f"a frame of {name} was changed on its way: wrong checksum")
        self._unchecked = self._hasher = None
        self._wanted = [memoryview(self._header)]
        self._left = HEADER.size
        return self._unpacked(frame)
