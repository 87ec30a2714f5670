"""One TCP socket on the event loop: bytes both ways, in clear or in TLS, within a stall timeout."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from typing import Final

from pageferry.common.errors import ConnectionBroken, PeerSilent
from pageferry.common.wire import tls
from pageferry.common.wire.addresses import host_of
from pageferry.common.wire.congestion import use_congestion
from pageferry.common.wire.eviction import network_of
from pageferry.common.wire.link_policy import STALL_S, Tap
from pageferry.common.wire.tcp import os_reason, reset, tune

LINGER_S: Final = 1.0
_WRITE_BYTES: Final = 65536  # of what is sent, within the stall timeout


class SocketStream:
    """Bytes over one socket of the running loop; `secure` continues in TLS.

    Args:
        sock: Connected and non-blocking; closed by `close`, unless it is detached before.
        peer: HOST:PORT, for messages.
        stall_s: A peer that takes or says nothing for so long counts as gone.

    Attributes:
        peer: As given.
        sent_bytes: Counts everything on the connection, prefaces included.
        received_bytes: Likewise.
        heard_at: When it last received something (or was made), CLOCK_MONOTONIC seconds.
        peer_certificate: A digest of the peer's; None: without TLS.
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
        self._write_lock = asyncio.Lock()

    def tune(self) -> None:
        """Set the options that every connection has.

        Raises:
            OSError: If the connection is broken already.
        """
        tune(self._sock, None, self._stall_s)

    def use_congestion(self, name: str) -> None:
        """Choose the congestion control.

        Args:
            name: As Linux calls it.

        Raises:
            UsageError: If this host does not have it, or not for this user.
        """
        use_congestion(self._sock, name)

    def tap(self, tap: Tap | None) -> None:
        """Have everything that is sent here from now on seen, and perhaps spoilt.

        Args:
            tap: None changes nothing.
        """
        if tap is not None:
            self._tap = tap
            tap.opened(self._sock)

    @property
    def address(self) -> tuple[str, int]:
        """Numeric host and port of the peer; raises `ConnectionBroken`."""
        try:
            name = self._sock.getpeername()
        except OSError as error:
            raise ConnectionBroken(
                f"connection with {self.peer} broke: {os_reason(error)}"
            ) from None
        return host_of(name), int(name[1])

    @property
    def network(self) -> str:
        """The peer's, see `eviction.network_of`; empty where the peer has gone."""
        if self._network is None:
            try:
                self._network = network_of(self.address[0])
            except ConnectionBroken:
                self._network = ""
        return self._network

    @property
    def patience_s(self) -> float:
        """How much longer the peer may be silent before it counts as gone."""
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
            raise ConnectionBroken(f"{self.peer} {tls.tls_reason(error)}") from None
        except OSError as error:
            if limit.expired():
                return self._read_late(view, limit_s or 0.0)
            raise ConnectionBroken(
                f"connection with {self.peer} broke: {os_reason(error)}"
            ) from None
        if n == 0:
            raise ConnectionBroken(f"{self.peer} closed the connection")
        self.received_bytes += n
        self.heard_at = time.monotonic()
        return n

    def _read_late(self, view: memoryview, limit_s: float) -> int:
        """Look once more after the time limit: perhaps it was we who did not listen."""
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
        """Send, for who holds the lock."""
        if self._tap is not None:
            data = b"".join(self._tap.outgoing(self._sock, [data]))
        try:
            for start in range(0, len(data), _WRITE_BYTES):
                async with asyncio.timeout(self._stall_s) as limit:
                    await self._send_part(data[start : start + _WRITE_BYTES])
        except OSError as error:
            if limit.expired():
                raise PeerSilent(f"{self.peer} took nothing for {self._stall_s:g} s") from None
            raise ConnectionBroken(
                f"connection with {self.peer} broke: {os_reason(error)}"
            ) from None
        self.sent_bytes += len(data)

    async def _send_part(self, data: bytes) -> None:
        if isinstance(self._sock, ssl.SSLSocket):
            await tls.send_all(self._sock, data)
            self.sent_bytes += tls.records_size(len(data)) - len(data)
        else:
            await asyncio.get_running_loop().sock_sendall(self._sock, data)

    async def secure(self, context: ssl.SSLContext, hostname: str | None = None) -> None:
        """Go on in TLS.

        Args:
            context: Of this end.
            hostname: Whose certificate is expected; None at the server's end.

        Raises:
            ssl.SSLError: If the handshake fails; the socket is closed then.
            OSError: Likewise.
        """
        secure = await tls.handshake(self._sock, context, hostname)
        self._sock = secure
        self.peer_certificate = tls.certificate_of(secure)

    async def starts_tls(self) -> bool:
        """Wait for the peer's first bytes, and leave them in the stream.

        Returns:
            Whether it begins with TLS.

        Raises:
            ConnectionBroken: If nothing comes any more.
        """
        await tls.readable(self._sock)
        try:
            first = self._sock.recv(8, socket.MSG_PEEK)
        except OSError as error:
            raise ConnectionBroken(
                f"connection with {self.peer} broke: {os_reason(error)}"
            ) from None
        if not first:
            raise ConnectionBroken(f"{self.peer} closed the connection")
        return tls.looks_like_tls(first)

    def detach(self) -> socket.socket:
        """Hand the socket over to a thread; this object is done with.

        Returns:
            The socket, blocking; the caller closes it.
        """
        self._sock.setblocking(True)
        return self._sock

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

    def abort(self) -> None:
        """Have whoever waits for it find it reset; whoever owns it closes it."""
        with contextlib.suppress(OSError):
            reset(self._sock)

    def close(self) -> None:
        """Close at once; idempotent."""
        self._sock.close()
