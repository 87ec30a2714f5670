"""What each type of frame has behind its header, and what of that is legal: a rule per type.

    BODY[type](header, legal, content)   raises unless the header is legal; `table_bytes`
    take_table(body)                     raises unless the table is; where its payload belongs
    finish()                             the frame, once its checksum was found to be right

A rule is made for one frame and holds what is known of that frame until then.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.errors import RemoteProtocolError
from pageferry.common.units import LINE_SIZE, PAGE_SIZE
from pageferry.common.wire import deltas
from pageferry.common.wire.budget import SMALL_BYTES
from pageferry.common.wire.deltas import DELTA_OF, DeltaTable
from pageferry.common.wire.extents import EXTENT, Extents, count_within
from pageferry.common.wire.frames import (
    LINES_OF,
    MAX_CONTROL,
    MAX_EXTENTS,
    MAX_FRAME_LINES,
    MAX_FRAME_PAGES,
    BarrierFrame,
    ControlFrame,
    DeltaFrame,
    Frame,
    FrameType,
    LinesFrame,
    LineTable,
    PagesFrame,
    RequestFrame,
    ZeroFrame,
    count_lines,
)
from pageferry.common.wire.header import Header
from pageferry.common.wire.packing import MAX_UNPACKED, check_size
from pageferry.common.wire.payload import Content, Payload
from pageferry.common.wire.probes import AnswerFrame, ProbeFrame
from pageferry.common.wire.stream_format import StreamFormat


@dataclass(slots=True)
class Legal:
    """What may come on a connection; see `FrameDecoder`.

    Attributes:
        stream: As agreed: checksums, codec, deltas.
        n_pages: Pages of the guest; extents and requests end below.
        pages: Whether frames of pages may.
        requests: Whether requests for pages may.
        attempt: Of probes; None: there are none.
        most_control: Bytes of a control message; 0: there are none.
    """

    stream: StreamFormat
    n_pages: int
    pages: bool
    requests: bool
    attempt: int | None
    most_control: int = MAX_CONTROL


_NOTHING: Final = Payload(0, [])


class BodyRule(ABC):
    """One frame that is being read.

    Args:
        header: The frame's.
        legal: What may come now.
        content: Where its payload is to go.

    Raises:
        RemoteProtocolError: When it is made, for a header that is not legal here.

    Attributes:
        name: Of its type, for people.
        table_bytes: What follows the header before any payload.
    """

    name: ClassVar[str]

    def __init__(self, header: Header, legal: Legal, content: Content) -> None:
        self._header = header
        self._legal = legal
        self._content = content
        self.table_bytes = self._check()

    @abstractmethod
    def _check(self) -> int:
        """Raise unless the header is legal; return the bytes of the table."""

    def take_table(self, body: bytes) -> Payload:
        """Take the table, or a control message; only where `table_bytes` is not 0.

        Args:
            body: All bytes of it.

        Returns:
            Where the payload goes; of size 0 where there is none.

        Raises:
            RemoteProtocolError: If it is not legal.
        """
        raise NotImplementedError  # never called where there is no table

    @abstractmethod
    def finish(self) -> Frame:
        """Finish the frame, all of which is there.

        Returns:
            What is handed out.
        """


class _Control(BodyRule):
    name = "control"
    _body = b""

    def _check(self) -> int:
        _, _, entries, _, length = self._header
        most = self._legal.most_control
        if not most:
            raise RemoteProtocolError("a control message on a bulk channel")
        if entries or not 0 < length <= most:
            raise RemoteProtocolError(f"a control message of {length} bytes, expected 1 to {most}")
        return length

    def take_table(self, body: bytes) -> Payload:
        self._body = body
        return _NOTHING

    def finish(self) -> Frame:
        return ControlFrame(self._body)


class _Barrier(BodyRule):
    name = "a barrier"

    def _check(self) -> int:
        if self._header.length or self._header.entries:
            raise RemoteProtocolError("a barrier with a body")
        return 0

    def finish(self) -> Frame:
        return BarrierFrame(self._header.value)


class _Request(BodyRule):
    name = "a request"

    def _check(self) -> int:
        page, length, n_pages = self._header.value, self._header.length, self._legal.n_pages
        if not self._legal.requests:
            raise RemoteProtocolError("a request for a page on a connection that serves none")
        if length or page >= n_pages:
            raise RemoteProtocolError(
                f"a request of {length} bytes for page {page} of a guest of {n_pages} pages"
            )
        return 0

    def finish(self) -> Frame:
        return RequestFrame(self._header.value, self._header.entries)


class _Probe(BodyRule):
    name = "a probe"
    made: ClassVar[type[ProbeFrame] | type[AnswerFrame]] = ProbeFrame

    def _check(self) -> int:
        attempt, length, wanted = self._header.value, self._header.length, self._legal.attempt
        if length or attempt != wanted:
            due = "none is due" if wanted is None else f"expected attempt {wanted}"
            raise RemoteProtocolError(
                f"a probe of {length} bytes, of attempt {attempt}, where {due}"
            )
        return 0

    def finish(self) -> Frame:
        return self.made(self._header.value, self._header.entries)


class _Answer(_Probe):
    name = "an answer"
    made = AnswerFrame


class _Pages(BodyRule):
    """Pages, or (`_Zero`) marks of pages."""

    name = "pages"
    most_pages: ClassVar[int] = MAX_FRAME_PAGES
    _extents: Extents
    _pages = 0

    def _check(self) -> int:
        _, _, entries, _, length = self._header
        if not self._legal.pages:
            raise RemoteProtocolError("guest pages on a connection that carries none")
        if not 0 < entries <= MAX_EXTENTS:
            raise RemoteProtocolError(f"a frame of {entries} extents, expected 1 to {MAX_EXTENTS}")
        table = entries * EXTENT.itemsize
        pages, rest = divmod(length - table, PAGE_SIZE)
        if rest or not 0 <= pages <= self.most_pages:
            raise RemoteProtocolError(f"a page frame of {length} bytes with {entries} extents")
        self._pages = pages
        return table

    def _take_extents(self, body: bytes) -> int:
        self._extents = np.frombuffer(body, EXTENT)
        return count_within(self._extents, self._legal.n_pages)

    def take_table(self, body: bytes) -> Payload:
        total = self._take_extents(body)
        if total != self._pages:
            raise RemoteProtocolError(
                f"a page frame that announces {total} pages and carries {self._pages}"
            )
        return self._content.of_pages(self._extents, total)

    def finish(self) -> Frame:
        return PagesFrame(self._extents, self._pages)


class _Zero(_Pages):
    name = "zero pages"
    most_pages = 0

    def take_table(self, body: bytes) -> Payload:
        self._pages = self._take_extents(body)
        return _NOTHING

    def finish(self) -> Frame:
        return ZeroFrame(self._extents, self._pages)


def _line_table(body: bytes, n_pages: int) -> LineTable:
    """Return the table of a frame of lines, whose pages have to be the guest's."""
    table: LineTable = np.frombuffer(body, LINES_OF)
    last = int(table["page"].max())
    if last >= n_pages:
        raise RemoteProtocolError(f"lines of page {last} of a guest of {n_pages} pages")
    if not table["mask"].all():
        raise RemoteProtocolError("a lines frame with a page of which no line comes")
    return table


class _Lines(BodyRule):
    name = "lines"
    _table: LineTable
    _data: NDArray[np.uint8]
    _lines = 0

    def _check(self) -> int:
        _, _, entries, _, length = self._header
        if not self._legal.pages:
            raise RemoteProtocolError("lines of guest pages on a connection that carries none")
        table = entries * LINES_OF.itemsize
        self._lines, rest = divmod(length - table, LINE_SIZE)
        if rest or not 0 < entries <= self._lines <= MAX_FRAME_LINES:
            raise RemoteProtocolError(f"a lines frame of {length} bytes with {entries} entries")
        return table

    def take_table(self, body: bytes) -> Payload:
        self._table = _line_table(body, self._legal.n_pages)
        lines = count_lines(self._table)
        if lines != self._lines:
            raise RemoteProtocolError(
                f"a lines frame that announces {lines} lines and carries {self._lines}"
            )
        self._data = self._content.line_room(lines * LINE_SIZE)
        return Payload(len(self._data), [self._data.data])

    def finish(self) -> Frame:
        return LinesFrame(self._table, self._lines, self._data)


class _Packed(BodyRule):
    """A PAGES or LINES frame whose payload is compressed; it arrives as that frame."""

    name = "compressed pages"
    _table: Extents | LineTable
    _data: NDArray[np.uint8]
    _by_line = False
    _entries = 0  # pages, or lines
    _size = 0

    def _check(self) -> int:
        _, _, entries, value, length = self._header
        codec, kind = value & 0xFF, value >> 8
        if (
            not self._legal.pages
            or self._legal.stream.codec is None
            or codec != self._legal.stream.codec
        ):
            raise RemoteProtocolError(f"a frame compressed by codec {codec}, which was not agreed")
        if kind not in (FrameType.PAGES, FrameType.LINES):
            raise RemoteProtocolError(f"a compressed frame of type {kind}")
        self._by_line = kind == FrameType.LINES
        table = entries * (LINES_OF if self._by_line else EXTENT).itemsize
        most = MAX_FRAME_LINES if self._by_line else MAX_EXTENTS
        self._size = length - table
        if not (0 < entries <= most and 0 < self._size < MAX_UNPACKED):
            raise RemoteProtocolError(f"a packed frame of {length} bytes, {entries} entries")
        return table

    def take_table(self, body: bytes) -> Payload:
        """Take the table: only now is it known how long the payload may be."""
        if self._by_line:
            self._table = _line_table(body, self._legal.n_pages)
            self._entries = count_lines(self._table)
            check_size(self._size, self._entries * LINE_SIZE)
        else:
            self._table = np.frombuffer(body, EXTENT)
            self._entries = count_within(self._table, self._legal.n_pages)
            unpacked = self._entries * PAGE_SIZE
            check_size(self._size, unpacked)
            if unpacked > SMALL_BYTES:  # once more where it is placed
                self._content.draw(self._size + 2 * unpacked)
        self._data = self._content.payload_room(self._size)
        return Payload(self._size, [self._data.data])

    def finish(self) -> Frame:
        if self._by_line:
            data = self._content.unpack_lines(self._data.data, self._entries)
            return LinesFrame(self._table, self._entries, data)
        self._content.unpack_pages(self._data.data, self._table, self._entries)
        return PagesFrame(self._table, self._entries)


class _Delta(BodyRule):
    name = "deltas"
    _table: DeltaTable
    _data: NDArray[np.uint8]
    _size = 0

    def _check(self) -> int:
        if not self._legal.pages or not self._legal.stream.deltas:
            raise RemoteProtocolError("a delta of pages, which was not agreed")
        table = self._header.entries * DELTA_OF.itemsize
        self._size = self._header.length - table
        deltas.check_header(self._header.entries, self._size)
        return table

    def take_table(self, body: bytes) -> Payload:
        self._table = deltas.table_of(body, self._legal.n_pages, self._size)
        self._data = self._content.payload_room(self._size)
        return Payload(self._size, [self._data.data])

    def finish(self) -> Frame:
        return DeltaFrame(self._table, self._data)


BODY: Final[dict[int, type[BodyRule]]] = {
    FrameType.CONTROL: _Control,
    FrameType.PAGES: _Pages,
    FrameType.ZERO: _Zero,
    FrameType.BARRIER: _Barrier,
    FrameType.REQUEST: _Request,
    FrameType.LINES: _Lines,
    FrameType.PACKED: _Packed,
    FrameType.DELTA: _Delta,
    FrameType.PROBE: _Probe,
    FrameType.ANSWER: _Answer,
}
