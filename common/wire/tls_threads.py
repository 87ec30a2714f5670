"""TLS connections that threads use: for bulk pages, and a socket of plain bytes for compiled code.

One thread at a time uses the connection; another one may only shut it down, by
`tls.shutdown_socket`.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from pageferry.common.errors import PageferryError
from pageferry.common.process.threads import WatchedThread, failure_of
from pageferry.common.wire.tls import RECORD, SEND, shutdown_socket

_TCP_NOTSENT_LOWAT: Final = 25
_LAST_WORDS_S: Final = 1.0
_URGENT_BYTES: Final = 32 * 1024  # in a buffer, for which a demanded page may have to wait


class ScatteringTls:
    """What bulk connections use of a socket, over TLS: for one thread, and `shutdown` for any.

    Args:
        secure: Blocking, perhaps with a timeout; `close` closes it.
    """

    def __init__(self, secure: ssl.SSLSocket) -> None:
        self._secure = secure
        self._together = bytearray(SEND)

    def sendmsg(self, buffers: Sequence[bytes | memoryview]) -> int:
        """Send from the front; small buffers share records.

        Args:
            buffers: At least one.

        Returns:
            How many bytes were sent, perhaps not all.
        """
        first = buffers[0]
        if len(first) >= RECORD:
            return self._secure.send(first[:SEND])
        filled = 0
        for buffer in buffers:
            part = buffer[: SEND - filled]
            self._together[filled : filled + len(part)] = part
            filled += len(part)
            if filled == SEND:
                break
        sent = 0
        with memoryview(self._together) as view:
            while sent < filled:
                sent += self._secure.send(view[sent:filled])
        return sent

    def recvmsg_into(self, buffers: Sequence[memoryview]) -> tuple[int]:
        """Fill buffers from the front with what there is.

        Args:
            buffers: At least one.

        Returns:
            (bytes,); (0,): the peer has ended the connection.
        """
        total = 0
        for buffer in buffers:
            n = self._secure.recv_into(buffer)
            total += n
            if n < len(buffer) or not self._secure.pending():
                break
        return (total,)

    def shutdown(self, how: int) -> None:
        """Shut down as `tls.shutdown_socket`.

        Args:
            how: As of `socket.shutdown`.
        """
        shutdown_socket(self._secure, how)

    def close(self) -> None:
        """Release the socket."""
        self._secure.close()


def plain_end(
    secure: ssl.SSLSocket, tell: Callable[[PageferryError], None] | None = None
) -> socket.socket:
    """Make a socket of plain bytes for compiled code; a thread carries them on through TLS.

    The thread ends, and closes the connection, when either side does.

    Args:
        secure: The thread's from now on.
        tell: Called on that thread with what has ended it otherwise.

    Returns:
        A local, blocking socket; the caller closes it.
    """
    here, there = socket.socketpair()
    for sock in (here, there):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _URGENT_BYTES)
    secure.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _URGENT_BYTES)
    pump = _Pump(secure, there)
    WatchedThread(partial(pump.run, tell), "tls-urgent").start()
    return here


class _Pump:
    """Carries bytes between a TLS connection and a local socket; one thread uses both."""

    def __init__(self, secure: ssl.SSLSocket, local: socket.socket) -> None:
        self._secure, self._local = secure, local
        secure.setblocking(False)
        local.setblocking(False)
        self._in = bytearray(SEND)
        self._out = bytearray(SEND)
        self._to_local = memoryview(b"")
        self._to_secure = memoryview(b"")
        self._ended = False  # the TLS side; what has come is still carried on

    def run(self, tell: Callable[[PageferryError], None] | None) -> None:
        """Carry bytes until either side ends, then close both: the thread's life."""
        try:
            while not (self._ended and not self._to_local):
                self._wait()
                self._inward()
                self._outward()
        except OSError:
            pass  # whoever uses the plain end sees that it has ended, and says so
        except BaseException as error:  # noqa: BLE001 - before the end of the connections is seen
            if tell is not None:
                tell(failure_of(error))
        finally:
            self._secure.close()
            self._local.close()

    def _wait(self) -> None:
        poll = select.poll()
        wants = select.POLLOUT if self._to_secure else 0
        if not self._to_local and not self._ended:
            if self._secure.pending():
                return
            wants |= select.POLLIN
        poll.register(self._secure.fileno(), wants)
        wants = select.POLLOUT if self._to_local else 0
        poll.register(self._local.fileno(), wants | (0 if self._to_secure else select.POLLIN))
        ended = select.POLLHUP | select.POLLERR
        if any(fd == self._local.fileno() and event & ended for fd, event in poll.poll()):
            self._last_words()

    def _last_words(self) -> None:
        """Send on for a bounded while what came before the plain end was closed."""
        self._secure.settimeout(_LAST_WORDS_S)
        while True:
            if self._to_secure:
                self._secure.sendall(self._to_secure)
            n = self._local.recv_into(self._out)
            if n == 0:
                raise OSError("the plain end has been closed")
            self._to_secure = memoryview(self._out)[:n]

    def _inward(self) -> None:
        if not self._to_local and not self._ended:
            try:
                n = self._secure.recv_into(self._in)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                n = -1
            if n >= 0:
                self._to_local, self._ended = memoryview(self._in)[:n], n == 0
        if self._to_local:
            with contextlib.suppress(BlockingIOError):
                self._to_local = self._to_local[self._local.send(self._to_local) :]

    def _outward(self) -> None:
        if not self._to_secure:
            try:
                n = self._local.recv_into(self._out)
            except BlockingIOError:
                return
            if n == 0:
                raise OSError("the plain end has been closed")
            self._to_secure = memoryview(self._out)[:n]
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self._to_secure = self._to_secure[self._secure.send(self._to_secure) :]
