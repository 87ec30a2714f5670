"""Taking frames apart, without IO: bytes in, frames out.

Every frame goes through the same parts, some of which it may not have:

    HEADER ──> TABLE ──> PAYLOAD ──> TRAILER ──> handed out

What is particular to a type is its rule (`common.wire.body_rules`, looked up in `BODY`): one object
per frame, made from its header and gone at its end.

The decoder owns no page memory. It asks for the buffers that a header announces, and hands them to
whoever reads the socket (`buffers`), so that page bytes go from the socket to their place and
nowhere else. All that comes from the wire is checked against the negotiated guest before it is
used, and no frame is handed out before its checksum was found to be right; anything else raises
`RemoteProtocolError` and the decoder takes no further bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Final

import xxhash

from pageferry.common.errors import CorruptFrame, RemoteProtocolError
from pageferry.common.wire.body_rules import BODY, BodyRule, Legal
from pageferry.common.wire.budget import BudgetShare
from pageferry.common.wire.extents import Extents
from pageferry.common.wire.frames import MAGIC, PREFACE, PROTOCOL_VERSION, Frame, FrameType
from pageferry.common.wire.header import CHECKED, HEADER, TRAILER, unpack_header
from pageferry.common.wire.packing import Unpacker
from pageferry.common.wire.payload import Content, Placer
from pageferry.common.wire.spans import Spans, SpanTable
from pageferry.common.wire.stream_format import StreamFormat

_PLAINEST: Final = StreamFormat()
_FIRST_PART: Final = 64 * 1024  # of a table; each further one may be as long as all before it


def check_preface(data: bytes) -> None:
    """Check that a stream is of our kind and version.

    Args:
        data: Its first 16 bytes.

    Raises:
        RemoteProtocolError: If it is not, with both versions where it is only that.
    """
    if data[: len(MAGIC)] != MAGIC:
        raise RemoteProtocolError(f"the peer is not a pageferry agent: it began with {data[:16]!r}")
    version = PREFACE.unpack(data)[1]
    if version != PROTOCOL_VERSION:
        raise RemoteProtocolError(
            f"protocol version mismatch: the peer speaks version {version},"
            f" this agent speaks version {PROTOCOL_VERSION}"
        )


class _Part(Enum):
    """Part of a frame that the next bytes belong to."""

    HEADER = auto()
    TABLE = auto()
    PAYLOAD = auto()
    TRAILER = auto()


class _Table:
    """A table, or a control message, for which memory is only taken as it comes.

    Attributes:
        due: Bytes of its next part, which has no buffer yet; 0: it has one.
    """

    def __init__(self, length: int) -> None:
        self._parts: list[bytearray] = []
        self._left = length
        self.due = 0

    @property
    def held(self) -> int:
        """Bytes of it that have a buffer."""
        return sum(map(len, self._parts))

    @property
    def is_whole(self) -> bool:
        """Whether there is no further part."""
        return self._left == 0

    def next_part(self) -> int:
        """Begin the next part; return its bytes."""
        self.due = min(self._left, max(self.held, _FIRST_PART))
        self._left -= self.due
        return self.due

    def take_buffer(self) -> memoryview:
        """Return memory for the part that is due."""
        self._parts.append(bytearray(self.due))
        self.due = 0
        return memoryview(self._parts[-1])

    def joined(self) -> bytes:
        """Return all of it."""
        return b"".join(self._parts)


class FrameDecoder:
    """Bytes in, frames out.

    Read into `buffers()` (all of them in one call where the socket can), or into `spans` where
    there are any; then tell `received(n)` how many bytes came.

    Args:
        placer: Knows where pages belong; None (a control connection): their frames are illegal.
        stream: What both ends agreed on: whether frames other than CONTROL have checksums; whether
            PACKED frames, which arrive as what is in them, are legal; and DELTA frames.
        n_pages: Pages of the guest.
        requests: They are legal: at the source, on the connection that answers them.
        attempt: The connection's, whose probes are legal; None: there are none.
        places: Where pages of frames without a checksum may go directly, or None for the placer's
            buffers; whoever reads must look at `spans` then.
        share: From which the buffers of large frames draw, which may wait.

    Attributes:
        legal: What may come; may be changed between two frames.
    """

    def __init__(
        self,
        placer: Placer | None = None,
        *,
        stream: StreamFormat = _PLAINEST,
        n_pages: int = 0,
        requests: bool = False,
        attempt: int | None = None,
        places: Callable[[Extents], SpanTable | None] | None = None,
        share: BudgetShare | None = None,
    ) -> None:
        self.legal = Legal(
            stream=stream,
            n_pages=n_pages,
            pages=placer is not None,
            requests=requests,
            attempt=attempt,
        )
        unpacker = None if stream.codec is None else Unpacker(stream.codec)
        self._content = Content(placer, None if stream.checksum else places, unpacker, share)
        self._part = _Part.HEADER
        self._rule: BodyRule | None = None  # of the frame that is being read
        self._table = _Table(0)
        self._spans: Spans | None = None
        self._hasher: xxhash.xxh3_64 | None = None
        self._header = bytearray(HEADER.size)
        self._trailer = bytearray(TRAILER.size)
        # The buffers that are still to be filled, in order. While a payload is read, the trailer's
        # and the next header's buffers stand behind it: one system call less a frame.
        self._wanted: list[memoryview] = [memoryview(self._header)]
        self._left = HEADER.size  # bytes of the present part, the next header not counted
        self._broken: RemoteProtocolError | None = None

    @property
    def at_boundary(self) -> bool:
        """True between frames: a connection may end here without cutting one."""
        return self._part is _Part.HEADER and self._left == HEADER.size

    def buffers(self) -> list[memoryview]:
        """Return where the next bytes belong.

        Returns:
            Writable buffers, in order; never none.

        Raises:
            RemoteProtocolError: Where `received` has raised it.
        """
        if self._broken:
            raise self._broken
        if self._table.due:
            self._wanted = [self._table.take_buffer()]
        return self._wanted

    @property
    def due(self) -> int:
        """Bytes that `buffers` is about to take for a table or a message."""
        return self._table.due

    @property
    def held(self) -> int:
        """Bytes that have been taken for a table or a message."""
        return self._table.held

    @property
    def unpack_cpu_s(self) -> float:
        """CPU seconds that decompressing has cost so far."""
        unpacker = self._content.unpacker
        return 0.0 if unpacker is None else unpacker.cpu_s

    @property
    def spans(self) -> Spans | None:
        """Where the next bytes belong instead, if `places` has said so; raises as `buffers`."""
        if self._broken:
            raise self._broken
        return self._spans

    def received(self, n: int) -> list[Frame]:
        """Take in bytes that were written to the front of `buffers()` or `spans`.

        Args:
            n: How many, at most what those hold.

        Returns:
            The frames that are whole now, in order. The data of LINES and DELTA frames is valid
            until the next call.

        Raises:
            RemoteProtocolError: For what is not legal, now and whenever it is asked again.
            ConnectionBroken: If the share was closed while the frame waited for memory.
        """
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
        hasher = self._hasher if self._part is not _Part.TRAILER else None
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
        if self._part is _Part.HEADER:
            return self._header_done()
        assert self._rule is not None  # noqa: S101 - the header has made it
        if self._part is _Part.TABLE:
            return self._table_done(self._rule)
        if self._part is _Part.PAYLOAD:
            return self._content_done(self._rule)
        return self._trailer_done(self._rule)

    def _header_done(self) -> Frame | None:
        header = unpack_header(self._header)
        rule = BODY.get(header.kind)
        if rule is None:
            raise RemoteProtocolError(f"a frame of unknown type {header.kind}")
        checked = self.legal.stream.checksum or header.kind == FrameType.CONTROL
        wanted = CHECKED if checked else 0
        if header.flags != wanted:
            raise RemoteProtocolError(f"a frame with flags {header.flags:#x}, expected {wanted:#x}")
        self._hasher = xxhash.xxh3_64(self._header) if checked else None
        self._rule = rule(header, self.legal, self._content)
        if self._rule.table_bytes == 0:
            return self._content_done(self._rule)
        self._part = _Part.TABLE
        self._table = _Table(self._rule.table_bytes)
        self._read_table()
        return None

    def _read_table(self) -> None:
        self._left = self._table.next_part()
        self._wanted = []  # made by `buffers`

    def _table_done(self, rule: BodyRule) -> Frame | None:
        if not self._table.is_whole:
            self._read_table()
            return None
        payload = rule.take_table(self._table.joined())
        if payload.size == 0:
            return self._content_done(rule)
        self._part = _Part.PAYLOAD
        self._left = payload.size
        self._spans = payload.spans
        self._wanted = [*payload.buffers, *self._tail()]
        return None

    def _tail(self) -> list[memoryview]:
        """Return the buffers for what comes behind a payload."""
        header = memoryview(self._header)
        return [header] if self._hasher is None else [memoryview(self._trailer), header]

    def _content_done(self, rule: BodyRule) -> Frame | None:
        self._spans = None
        self._table = _Table(0)
        # After a payload the buffers of the tail are already at the front, whole.
        self._wanted = self._tail()
        self._left = len(self._wanted[0])
        if self._hasher is None:
            return self._finish(rule)
        self._part = _Part.TRAILER
        return None

    def _trailer_done(self, rule: BodyRule) -> Frame:
        assert self._hasher is not None  # noqa: S101
        if TRAILER.unpack(self._trailer)[0] != self._hasher.intdigest():
            raise CorruptFrame(f"a frame of {rule.name} was changed on its way: wrong checksum")
        self._hasher = None
        self._wanted = self._tail()
        self._left = HEADER.size
        return self._finish(rule)

    def _finish(self, rule: BodyRule) -> Frame:
        self._part = _Part.HEADER
        self._rule = None
        return rule.finish()
