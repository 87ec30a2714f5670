"""Sockets. Nothing but this file, `addresses`, `bulk`, `listener` and `tls` opens or uses one.

Two kinds of connection come out of here. A `Connection` lives on the event loop and carries control
messages. A bulk connection begins as one, and after its handshake is detached to a thread with a
blocking socket (`bulk`), because that is what moves pages fastest and needs the loop least. Bytes
of guest memory go from where they lie to the socket and from the socket to where they belong;
Python never copies them.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import Final, TypeVar

from pageferry.common.errors import (
    ConnectionBroken,
    PageferryError,
    PeerRefused,
    PeerSilent,
    PeerUnreachable,
    RemoteProtocolError,
)
from pageferry.common.wire import bounds, decoder, encoder, frames, messages, tls
from pageferry.common.wire.addresses import host_of, open_socket, shown
from pageferry.common.wire.budget import Budget
from pageferry.common.wire.congestion import use_congestion
from pageferry.common.wire.eviction import network_of
from pageferry.common.wire.link_policy import DEFAULT, STALL_S, LinkPolicy, Tap
from pageferry.common.wire.messages import Hello, Message
from pageferry.common.wire.probes import AnswerFrame, Asked, ProbeFrame
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.common.wire.tls import ClientTls

HANDSHAKE_S: Final = 10.0  # from accept to Hello, and from connect to the peer's preface
LINGER_S: Final = 1.0
_TCP_RTO_MIN_US: Final = 45  # Python has no names for these two
_TCP_DELACK_MAX_US: Final = 46
_LEAST_TIMER_US: Final = 5_000  # added to the round trip's estimate, which has its own spread
_WRITE_BYTES: Final = 65536  # of a control message, within the stall timeout

# Of a message that draws nothing: one that keeps a connection alive waits for no frame of pages.
_FREE_BYTES: Final = 64 * 1024

_M = TypeVar("_M", bound=Message)


def reset(sock: socket.socket) -> None:
    """Break a connection as a network does: both ends find it reset. From any thread.

    Whoever waits for the socket is woken, and it stays open: its number is not given to another.
    """
    # Connecting to "no address" is how Linux lets go of a connection without closing the socket.
    ctypes.CDLL(None).connect(sock.fileno(), bytes(16), 16)


def why(error: OSError) -> str:
    """The system's words, without the number and the address tuple."""
    if isinstance(error, ssl.SSLError):
        return f"the peer {tls.why(error)}"
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)


def tune(sock: socket.socket, congestion: str | None, stall_s: float) -> None:
    """What every connection gets. Raises `UsageError`, and `OSError` where it is broken."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A host that vanishes says nothing: idle connections are probed, unacknowledged bytes expire.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(stall_s * 1000))
    if congestion is not None:
        use_congestion(sock, congestion)


def hurry(sock: socket.socket) -> None:
    """For a connection on which somebody waits for each answer; as far as this kernel can.

    A lost segment with nothing behind it is sent again when a timer of at least 200 ms has run out,
    and the peer may hold an acknowledgement back for 40 ms, which the timer allows for.
    """
    for option in (_TCP_RTO_MIN_US, _TCP_DELACK_MAX_US):
        with contextlib.suppress(OSError):  # kernels from before 2025 lack them
            sock.setsockopt(socket.IPPROTO_TCP, option, _LEAST_TIMER_US)


class Connection:
    """A control connection: typed messages over one socket of the running loop, and probes.

    `sent_bytes` and `received_bytes` count everything on it, prefaces included. stall_s: a
    peer that takes or says nothing for so long is taken for gone. heard_at: when it last received
    something (or was made), CLOCK_MONOTONIC seconds. peer_certificate: a digest of the peer's,
    None without TLS.
    """

    def __init__(self, sock: socket.socket, peer: str, stall_s: float = STALL_S) -> None:
        self._sock = sock
        self.peer = peer
        self._stall_s = stall_s
        self._tap: Tap | None = None
        self.peer_certificate: bytes | None = None
        self.sent_bytes = 0
        self.received_bytes = 0
        self.heard_at = time.monotonic()
        self._network: str | None = None
        self._decoder = decoder.FrameDecoder(stream=StreamFormat(checksum=True))
        self._asked = Asked()
        self._answered = asyncio.Condition()
        self._inbox: deque[Message] = deque()
        self._budget: Budget | None = None
        self._drawn = 0  # by the message that is read, or was given last
        self._write_lock = asyncio.Lock()

    def tune(self) -> None:
        """What every connection gets. Raises `OSError` where it is broken already."""
        tune(self._sock, None, self._stall_s)

    def use_congestion(self, name: str) -> None:
        """Raises `UsageError` where this kernel has no such congestion control."""
        use_congestion(self._sock, name)

    def tap(self, tap: Tap | None) -> None:
        """Have everything that is sent here seen, and perhaps spoilt."""
        if tap is not None:
            self._tap = tap
            tap.opened(self._sock)

    def limit(self, most: int) -> None:
        """Take no message of more than so many bytes from now on."""
        self._decoder.legal.most_control = most

    def charge(self, budget: Budget) -> None:
        """Draw what messages take from this from now on, before they are read and unpacked."""
        self._budget = budget

    def take_over(self) -> int:
        """Bytes drawn for the message that `receive` gave last; the caller gives them back."""
        drawn, self._drawn = self._drawn, 0
        return drawn

    async def _draw(self, n: int) -> None:
        if self._budget is not None and n > max(self._drawn, _FREE_BYTES):
            await self._budget.take(n - self._drawn, self._drawn)
            self._drawn = n

    def _give_back(self) -> None:
        if self._budget is not None and self._drawn:
            self._budget.give(self.take_over())

    def belong(self, attempt: int) -> None:
        """The hello has said which attempt this is of: probes of it are legal from now on."""
        self._decoder.legal.attempt = attempt

    @property
    def attempt(self) -> int:
        """Which one of the session's attempts this connection is of."""
        assert self._decoder.legal.attempt is not None  # noqa: S101 - there was a hello
        return self._decoder.legal.attempt

    @property
    def address(self) -> tuple[str, int]:
        """Numeric, of the peer. Raises `ConnectionBroken`."""
        try:
            name = self._sock.getpeername()
        except OSError as error:
            raise ConnectionBroken(f"connection with {self.peer} broke: {why(error)}") from None
        return host_of(name), int(name[1])

    @property
    def patience_s(self) -> float:
        """How much longer the peer may be silent before it is taken for gone."""
        return max(self.heard_at + self._stall_s - time.monotonic(), 0.0)

    @property
    def congestion(self) -> str:
        """The congestion control in use."""
        name = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
        return name.rstrip(b"\0").decode("ascii", "replace")

    async def _read_exactly(self, n: int) -> bytes:
        buffer = bytearray(n)
        view = memoryview(buffer)
        while view:
            view = view[await self._read_into(view) :]
        return bytes(buffer)

    async def _read_into(self, view: memoryview, limit_s: float | None = None) -> int:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(limit_s) as limit:
                if isinstance(self._sock, ssl.SSLSocket):
                    n = await tls.receive_into(self._sock, view)
                else:
                    n = await loop.sock_recv_into(self._sock, view)
        except ssl.SSLError as error:
            raise ConnectionBroken(f"{self.peer} {tls.why(error)}") from None
        except OSError as error:
            if limit.expired():
                return self._read_late(view, limit_s or 0.0)
            raise ConnectionBroken(f"connection with {self.peer} broke: {why(error)}") from None
        if n == 0:
            raise ConnectionBroken(f"{self.peer} closed the connection")
        self.received_bytes += n
        self.heard_at = time.monotonic()
        return n

    def _read_late(self, view: memoryview, limit_s: float) -> int:
        """The time was over, by our clock: perhaps it was we who did not listen."""
        try:
            n = self._sock.recv_into(view)
        except OSError:
            n = 0
        if n == 0:
            raise PeerSilent(f"{self.peer} said nothing for {limit_s:g} s") from None
        self.received_bytes += n
        self.heard_at = time.monotonic()
        return n

    async def _write(self, data: bytes) -> None:
        async with self._write_lock:
            await self._put(data)

    async def _put(self, data: bytes) -> None:
        """For who holds the lock."""
        if self._tap is not None:
            data = b"".join(self._tap.outgoing(self._sock, [data]))
        try:
            for start in range(0, len(data), _WRITE_BYTES):
                async with asyncio.timeout(self._stall_s) as limit:
                    await self._send_part(data[start : start + _WRITE_BYTES])
        except OSError as error:
            if limit.expired():
                raise PeerSilent(f"{self.peer} took nothing for {self._stall_s:g} s") from None
            raise ConnectionBroken(f"connection with {self.peer} broke: {why(error)}") from None
        self.sent_bytes += len(data)

    async def _send_part(self, data: bytes) -> None:
        if isinstance(self._sock, ssl.SSLSocket):
            await tls.send_all(self._sock, data)
            self.sent_bytes += tls.wire_size(len(data)) - len(data)
        else:
            await asyncio.get_running_loop().sock_sendall(self._sock, data)

    async def secure(self, context: ssl.SSLContext, hostname: str | None = None) -> None:
        """Go on in TLS; hostname: whose certificate is expected, None at the server's end.

        Raises `ssl.SSLError` and `OSError`; the socket is closed then.
        """
        secure = await tls.handshake(self._sock, context, hostname)
        self._sock = secure
        self.peer_certificate = tls.certificate_of(secure)

    async def starts_tls(self) -> bool:
        """Whether the peer begins with TLS; nothing is taken from the stream."""
        await tls.readable(self._sock)
        try:
            first = self._sock.recv(8, socket.MSG_PEEK)
        except OSError as error:
            raise ConnectionBroken(f"connection with {self.peer} broke: {why(error)}") from None
        if not first:
            raise ConnectionBroken(f"{self.peer} closed the connection")
        return tls.looks_like_tls(first)

    async def send_preface(self) -> None:
        """Open our direction of the stream."""
        await self._write(encoder.encode_preface())

    async def read_preface(self) -> None:
        """Check the peer's. Raises `RemoteProtocolError` where it is not of our kind."""
        data = await self._read_exactly(frames.PREFACE.size)
        decoder.check_preface(data)

    async def send(self, message: Message) -> None:
        """Put one message on the wire."""
        await self._write(encoder.encode_control(messages.encode(message)))

    async def receive(self) -> Message:
        """The next message. Raises `ConnectionBroken` or `RemoteProtocolError`.

        A peer of which nothing comes for the stall timeout is taken for gone. Probes that come
        meanwhile are answered.
        """
        if not self._inbox:
            self._give_back()  # nobody has taken over what the one before had drawn
        while not self._inbox:
            await self._draw(self._decoder.held + self._decoder.due)
            n = await self._read_into(self._decoder.buffers()[0], self._stall_s)
            for frame in self._decoder.received(n):
                await self._take(frame)
        return self._inbox.popleft()

    async def _take(self, frame: frames.Frame) -> None:
        if isinstance(frame, frames.ControlFrame):
            await self._draw(bounds.check(frame.body))
            self._inbox.append(messages.unpack(frame.body))
        elif isinstance(frame, ProbeFrame):
            await self._write(encoder.encode_answer(frame.attempt, frame.number, checked=True))
        elif isinstance(frame, AnswerFrame):
            self._asked.take(frame.number, time.monotonic())
            async with self._answered:
                self._answered.notify_all()
        else:
            raise RemoteProtocolError(f"{self.peer} sent a bulk frame on a control channel")

    async def probe(self) -> float:
        """Ask the peer, end to end; the seconds until it has answered.

        Somebody has to `receive` meanwhile, and to bound the time: who is cancelled may ask again.
        """
        async with self._write_lock:  # numbered in the order in which they leave
            number = self._asked.next(time.monotonic())
            wanted = self._asked.answered + len(self._asked)
            await self._put(encoder.encode_probe(self.attempt, number, checked=True))
        async with self._answered:
            await self._answered.wait_for(lambda: self._asked.answered >= wanted)
        assert self._asked.round_trip_s is not None  # noqa: S101 - one has been answered
        return self._asked.round_trip_s

    async def expect(self, kind: type[_M]) -> _M:
        """The next message, which must be of `kind`; a refusal or a failure is raised as one."""
        message = await self.receive()
        if isinstance(message, kind):
            return message
        if isinstance(message, messages.Refuse):
            raise PeerRefused(f"{self.peer} refused: {message.reason}")
        if isinstance(message, messages.Failed):
            raise PeerRefused(f"{self.peer} gave up: {message.reason}")
        raise RemoteProtocolError(
            f"{self.peer} sent {message.kind}, expected {kind.model_fields['kind'].default}"
        )

    def detach(self) -> socket.socket:
        """The socket, blocking, for a thread; this object is done with."""
        self._sock.setblocking(True)
        return self._sock

    def detach_urgent(self, tell: Callable[[PageferryError], None] | None = None) -> socket.socket:
        """The same for demands and their answers, which compiled code reads and writes by its

        descriptor: with TLS it is that of a socket before it. tell: see `tls.plain_end`.
        """
        sock = self.detach()
        hurry(sock)
        return tls.plain_end(sock, tell) if isinstance(sock, ssl.SSLSocket) else sock

    async def linger(self) -> None:
        """Close so that the peer can still read our last bytes.

        A socket that is closed with unread input resets the connection, and the reset overtakes
        what was sent. So: end our direction, and read on for a bounded while.
        """
        if isinstance(self._sock, ssl.SSLSocket):
            await tls.drain(self._sock, LINGER_S)
            return
        try:
            with contextlib.suppress(OSError, TimeoutError, ConnectionBroken):
                self._sock.shutdown(socket.SHUT_WR)
                scratch = memoryview(bytearray(65536))
                async with asyncio.timeout(LINGER_S):
                    for _ in range(64):
                        await self._read_into(scratch)
        finally:
            self.close()

    @property
    def network(self) -> str:
        """Of the peer: see `crowd.network_of`; empty where it has gone."""
        if self._network is None:
            try:
                self._network = network_of(self.address[0])
            except ConnectionBroken:
                self._network = ""
        return self._network

    def abort(self) -> None:
        """Have whoever waits for it find it reset; it is closed by who owns it."""
        with contextlib.suppress(OSError):
            reset(self._sock)

    def close(self) -> None:
        """At once; idempotent."""
        self._sock.close()
        self._give_back()


async def connect(
    host: str,
    port: int,
    hello: Hello,
    link: LinkPolicy = DEFAULT,
    *,
    command: str = "pageferry dest",
) -> Connection:
    """Connect, exchange prefaces, say hello. Raises `PeerUnreachable` and what a handshake may.

    All addresses of `host` are tried, within `HANDSHAKE_S`.

    Args:
        command: what is expected to listen there, for messages.
    """
    secure = link.secure
    peer = shown(host, port)
    sock = await open_socket(host, port, HANDSHAKE_S, command)
    connection = Connection(sock, peer, link.stall_s)
    connection.belong(hello.attempt)
    try:
        tune(sock, link.congestion, link.stall_s)
        async with asyncio.timeout(HANDSHAKE_S):
            if secure is not None:
                await _secure(connection, secure, host)
            await connection.send_preface()
            await connection.send(hello)
            await connection.read_preface()
    except TimeoutError:
        connection.close()
        raise PeerUnreachable(
            f"{peer} took the connection but did not answer within {HANDSHAKE_S:.0f} s:"
            f" is it '{command}'?"
        ) from None
    except ConnectionBroken as error:
        connection.close()
        hint = f" during the handshake: is it '{command}'?" * (secure is None)
        raise PeerUnreachable(f"{error}{hint}") from None
    except BaseException:
        connection.close()
        raise
    connection.tap(link.tap)
    return connection


async def _secure(connection: Connection, secure: ClientTls, host: str) -> None:
    try:
        await connection.secure(secure.context, secure.hostname or host.partition("%")[0])
    except ssl.SSLError as error:
        raise PeerUnreachable(f"{connection.peer} {tls.why(error)}") from None
    except OSError as error:
        raise PeerUnreachable(
            f"{connection.peer} ended the TLS handshake ({why(error)}): does it have --tls, too?"
        ) from None
