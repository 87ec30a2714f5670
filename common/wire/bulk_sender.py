"""The sending end of a bulk connection: pages from memory to a socket, within the rate limit.

A bulk connection begins as a `connection.Connection`, and is then detached to a thread at either
end. Where the rate is high, pages that may be read late go without being copied (`spans`). A sender
that has said nothing for a while sends a probe (`probes`), beside its thread, by `keep_open`.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from pageferry.common.errors import ConnectionBroken, PageferryError, RemoteProtocolError
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire import decoder, encoder, tls
from pageferry.common.wire.extents import Pages
from pageferry.common.wire.link_policy import DEFAULT, LinkPolicy
from pageferry.common.wire.pacing import Pacer
from pageferry.common.wire.probes import IDLE_S, MAX_NUMBER, ProbeFrame
from pageferry.common.wire.spans import IOV_MAX, PagePipe, SpanTable, span_table
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.common.wire.tcp import os_reason
from pageferry.common.wire.tls_threads import ScatteringTls

# Bulk bytes that the kernel may hold unsent: enough to keep a link busy between two slices, little
# enough for what follows not to wait behind them.
NOTSENT_LOWAT: Final = 128 * 1024
_TCP_NOTSENT_LOWAT: Final = 25
_SO_MAX_PACING_RATE: Final = 47
_UNPACED: Final = 2**64 - 1
_PROBES: Final = 4096  # bytes that a sender reads at once
# Below this, a slice at 400 MB/s, its two system calls cost as much as the copy that they spare.
_IN_PLACE_BYTES: Final = 260_000
_PLAINEST: Final = StreamFormat()


def _slices(
    buffers: Sequence[bytes | memoryview], size: int
) -> Iterator[tuple[list[bytes | memoryview], int]]:
    """Cut buffers into pieces of about `size` bytes and at most IOV_MAX buffers."""
    total = sum(map(len, buffers))
    if total <= size and 0 < len(buffers) <= IOV_MAX:  # as always without a limit
        yield [buffer for buffer in buffers if len(buffer)], total
        return
    piece: list[bytes | memoryview] = []
    room = size
    for buffer in buffers:
        rest = buffer
        while len(rest) > room or len(piece) == IOV_MAX:
            if room and len(piece) < IOV_MAX:
                piece.append(rest[:room])
                rest = rest[room:]
                room = 0
            yield piece, size - room
            piece, room = [], size
        if len(rest):
            piece.append(rest)
            room -= len(rest)
    if piece:
        yield piece, size - room


def _table(memory: int, pages: Pages) -> SpanTable:
    """Return where pages (sorted) of the memory at that address are: one stretch, or one each."""
    together = int(pages[-1]) - int(pages[0]) + 1 == len(pages)
    return span_table(memory, pages[:1], len(pages)) if together else span_table(memory, pages, 1)


class BulkSender:
    """The sending end of a bulk connection; for one thread at a time, and who keeps it open.

    Args:
        sock: Connected and blocking; `close` closes it.
        pacer: The rate limit of all channels.
        stream: Of the connection, for its probes.
        link: Of the session; its stall timeout and tap are used.
        attempt: Of the connection, for its probes.

    Attributes:
        sent_bytes: With TLS those of its records; the rate limit counts the same.
    """

    def __init__(
        self,
        sock: socket.socket,
        pacer: Pacer,
        *,
        stream: StreamFormat = _PLAINEST,
        link: LinkPolicy = DEFAULT,
        attempt: int = 0,
    ) -> None:
        stall_s, tap = link.stall_s, link.tap
        self._attempt, self._checked = attempt, stream.checksum
        self._one = threading.Lock()  # for a frame, or a probe
        self._heard = decoder.FrameDecoder(stream=stream, attempt=attempt)
        self._heard.legal.most_control = 0
        self._said_at = self._listened_at = time.monotonic()
        self._probes = 0
        self._connection = sock
        self._sock = sock if not isinstance(sock, ssl.SSLSocket) else ScatteringTls(sock)
        self._wire_size = tls.records_size if isinstance(sock, ssl.SSLSocket) else int
        self._pacer = pacer
        self._stall_s = stall_s
        self._tap = tap
        self.sent_bytes = 0
        self._paced: int | None = None  # bytes per second; None: by us alone
        self._pipe: PagePipe | None = None
        self._may_splice = tap is None and not isinstance(sock, ssl.SSLSocket)
        self._aborted = threading.Event()
        with contextlib.suppress(OSError):  # not a TCP socket
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, NOTSENT_LOWAT)
        # A peer that is stopped still acknowledges; what it does not do is to read.
        if isinstance(sock, ssl.SSLSocket):
            sock.settimeout(stall_s)
        else:
            limit = struct.pack("@ll", *divmod(round(stall_s * 1_000_000), 1_000_000))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def send(self, buffers: Sequence[bytes | memoryview]) -> int:
        """Send a frame within the rate limit.

        Args:
            buffers: What they hold when they are sent is what travels: mark pages clean before.

        Returns:
            Bytes on the wire.

        Raises:
            ConnectionBroken: If the connection breaks, stalls or is aborted.
            RemoteProtocolError: If the peer has sent anything but probes.
        """
        with self._frame():
            return self._tapped(buffers)

    def _tapped(self, buffers: Sequence[bytes | memoryview]) -> int:
        if self._tap is not None:
            buffers = self._tap.outgoing(self._connection, buffers)
        return self._send(buffers)

    @contextlib.contextmanager
    def _frame(self) -> Iterator[None]:
        """Let nothing else go out in between."""
        with self._one, self._explained():
            if time.monotonic() - self._listened_at > IDLE_S:
                self._listen()
            yield

    def send_parts(self, parts: Iterable[Sequence[bytes | memoryview]]) -> int:
        """Send a frame as `send`, each part of it before the next one is made.

        Args:
            parts: Each is valid until the next one is asked for.

        Returns:
            Bytes on the wire; it raises as `send`.
        """
        with self._frame():
            if self._tap is not None:  # sees whole frames
                return self._tapped([bytes(buffer) for part in parts for buffer in part])
            return sum(map(self._send, parts))

    @property
    def in_place(self) -> bool:
        """Whether `send_pages` can be used, and is worth it at the present rate."""
        if self._pacer.slice_bytes < _IN_PLACE_BYTES:
            return False
        if self._pipe is None and self._may_splice:
            try:
                self._pipe = PagePipe(PAGE_SIZE)
            except OSError:  # not on this host: pages are copied, as ever
                self._may_splice = False
        return self._pipe is not None

    def send_pages(self, head: bytes, memory: int, pages: Pages, end: bytes = b"") -> int:
        """Send a frame of pages without a copy; only where `in_place` says so.

        What travels is what the pages hold when the peer or the network card reads them, which may
        be after this has returned.

        Args:
            head: Header and table.
            memory: Address of page 0.
            pages: int64[n], sorted, at least one.
            end: The trailer, if there is one.

        Returns:
            Bytes on the wire; it raises as `send`.
        """
        pipe = self._pipe
        assert pipe is not None  # noqa: S101 - the caller has looked
        most = min(pipe.pages, max(self._pacer.slice_bytes // PAGE_SIZE, 1))
        step = -(-len(pages) // -(-len(pages) // most))  # slices as even as can be
        fd = self._connection.fileno()
        total = 0
        with self._frame():
            for start in range(0, len(pages), step):
                part = pages[start : start + step]
                first, last = start == 0, start + step >= len(pages)
                size = len(part) * PAGE_SIZE + len(head) * first + len(end) * last
                self._book(size)
                if first:
                    self._send_piece([head], len(head), more=True)
                pipe.send(fd, _table(memory, part), more=not last or bool(end))
                if last and end:
                    self._send_piece([end], len(end))
                self._count(size)
                total += size
        return total

    def _book(self, n: int) -> None:
        self._follow_rate()
        self._wait(self._pacer.reserve(n, time.monotonic()))

    def _count(self, n: int) -> None:
        self._said_at = time.monotonic()
        self._pacer.sent(n, self._said_at)
        self.sent_bytes += n

    def _send(self, buffers: Sequence[bytes | memoryview]) -> int:
        total = 0
        for piece, size in _slices(buffers, self._pacer.slice_bytes):
            on_wire = self._wire_size(size)
            self._book(on_wire)
            self._send_piece(piece, size)
            self._count(on_wire)
            total += on_wire
        return total

    def keep_open(self) -> None:
        """Send a probe if nothing has gone for `IDLE_S`; from any thread, several times a second.

        Does not wait, and reports no failure: who sends next will meet it.
        """
        if time.monotonic() - self._said_at < IDLE_S or not self._one.acquire(blocking=False):
            return
        try:
            with contextlib.suppress(PageferryError), self._explained():
                self._listen()
                if self._takes_more():
                    self._probe()
        finally:
            self._one.release()

    def _takes_more(self) -> bool:
        """Return whether the kernel does: else bytes wait in there, and it is not idle."""
        poll = select.poll()
        poll.register(self._connection.fileno(), select.POLLOUT)
        return bool(poll.poll(0))

    def _probe(self) -> None:
        number = self._probes & MAX_NUMBER
        self._probes += 1
        probe = encoder.encode_probe(self._attempt, number, checked=self._checked)
        self._send_piece([probe], len(probe))
        self._said_at = time.monotonic()
        self.sent_bytes += self._wire_size(len(probe))

    def _listen(self) -> None:
        """Take what the peer has said, which can only be probes; raise what is wrong."""
        self._listened_at = time.monotonic()
        data = self._said_there()
        if data == b"":
            raise ConnectionBroken("the destination closed a bulk connection")
        while data:
            buffer = self._heard.buffers()[0]
            n = min(len(buffer), len(data))
            buffer[:n] = data[:n]
            data = data[n:]
            if not all(isinstance(frame, ProbeFrame) for frame in self._heard.received(n)):
                raise RemoteProtocolError("something else than a probe came on a bulk connection")

    def _said_there(self) -> bytes | None:
        """Return what the peer has said; None: nothing."""
        sock = self._connection
        try:
            if not isinstance(sock, ssl.SSLSocket):
                return sock.recv(_PROBES, socket.MSG_DONTWAIT)
            sock.settimeout(0)
            try:
                return sock.recv(_PROBES)
            finally:
                sock.settimeout(self._stall_s)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (BlockingIOError, TimeoutError):
            raise ConnectionBroken(
                f"the destination took no byte for {self._stall_s:g} s on a bulk connection"
            ) from None
        except OSError as error:
            raise ConnectionBroken(f"a bulk connection broke: {os_reason(error)}") from None

    def _follow_rate(self) -> None:
        """Have the kernel pace this socket at its share of the rate, which may have changed."""
        rate = self._pacer.socket_rate
        if rate == self._paced:
            return
        self._paced = rate
        # Until the kernel lets them go bytes wait here, and not in a queue with others'.
        unsent = NOTSENT_LOWAT if rate is None else min(rate // 500, NOTSENT_LOWAT)
        with contextlib.suppress(OSError):  # not a TCP socket
            self._connection.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, unsent)
        self._pace(rate)

    def _pace(self, rate: int | None) -> None:
        wanted = struct.pack("@L", _UNPACED if rate is None else rate)
        self._connection.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, wanted)

    def _wait(self, seconds: float) -> None:
        """Wait until the rate limit allows it; `abort` ends it."""
        while seconds > 0:
            step = min(seconds, 1.0)  # a very low rate asks for longer than a clock can count
            if self._aborted.wait(step):
                raise ConnectionBroken("a bulk connection was given up")
            seconds -= step

    def _send_piece(
        self, piece: list[bytes | memoryview], size: int, *, more: bool = False
    ) -> None:
        send = self._sock.sendmsg if not more else self._send_more
        sent = send(piece)
        while sent < size:
            size -= sent
            while sent >= len(piece[0]):
                sent -= len(piece.pop(0))
            piece[0] = piece[0][sent:]
            sent = send(piece)

    def _send_more(self, piece: list[bytes | memoryview]) -> int:
        return self._connection.sendmsg(piece, (), socket.MSG_MORE)

    def abort(self) -> None:
        """Have whoever is in `send` fail at once; from any thread."""
        self._aborted.set()
        with contextlib.suppress(OSError):  # what is left in there goes out, then the end
            self._pace(None)
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Release the socket, after `abort` or at the end."""
        self._sock.close()
        if self._pipe is not None:
            self._pipe.close()
