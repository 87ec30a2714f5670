"""The page server: answers requests for pages from the paused guest's memory.

    PageServer(memory, sent)   before the downtime: compiles
    serve(socket, attempt)     the urgent connection, as soon as there is one: it is kept open
    open()                     once the guest has been handed over: requests are answered
    take_unsent(out)           by the pusher, on another thread: what to send next
    stop()                     the connection is over; `resync` and `serve` may follow

`sent` is shared: uint8[n_pages], `UNSENT`, `PUSHED` or `PULLED`.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from pageferry.common.errors import (
    ConnectionBroken,
    CorruptFrame,
    LocalProtocolError,
    PageferryError,
    RemoteProtocolError,
)
from pageferry.common.guest.checksum import require_checksum
from pageferry.common.guest.memory import GuestMemory
from pageferry.common.urgent import control as words
from pageferry.common.urgent.compiled_thread import CompiledThread
from pageferry.common.wire.extents import Pages
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.source_agent.postcopy.kernel import state as s
from pageferry.source_agent.postcopy.kernel.push import next_unsent
from pageferry.source_agent.postcopy.kernel.server import serve

UNSENT: Final = s.UNSENT
PUSHED: Final = s.PUSHED
PULLED: Final = s.PULLED

_PLAINEST: Final = StreamFormat()
_START_S: Final = 30.0
# How far beyond the last demanded page pushing continues. A guest that walks through memory demands
# the very next pages at once: if those were pushed, push and demand would cross on the way and the
# pages would travel twice. Further on, the push has time to arrive before the guest does.
PUSH_LEAD: Final = 1024

_STOP_S: Final = 10.0
_TCP_NOTSENT_LOWAT: Final = 25
_NOTSENT_LOWAT: Final = 32 * 1024  # bytes that a demanded page may have to wait for in the kernel


@dataclass(frozen=True, slots=True)
class ServerStats:
    """Counts of all connections so far.

    Attributes:
        demands: Requests.
        crossed: Requests for pages that had been pushed already.
        pages: Pages sent from here, neighbours included.
        zero_pages: Of those, pages that went as a mark.
        sent_bytes: Bytes sent, frames and probes.
        received_bytes: Bytes received.
    """

    demands: int
    crossed: int
    pages: int
    zero_pages: int
    sent_bytes: int
    received_bytes: int


def _broken(number: int) -> ConnectionBroken:
    why = os.strerror(number) if number else "it ended within a request"
    return ConnectionBroken(f"the urgent connection broke: {why}")


class PageServer(CompiledThread[s.ServerControl]):
    """Serves one guest's pages, one connection at a time. From `open` on the guest must not run.

    `event_fd` becomes readable when the connection has ended (see `failure`), and when the first
    probe on it has been answered (see `answered`).

    Args:
        memory: Of the guest.
        sent: See the module; the caller may write it before `open`, while nobody pushes.
        rate_Bps: Limit for neighbours in bytes/s; infinity: none. Demanded pages count against it,
            but wait only where what was sent is more than `MOST_DEBT_NS` ahead of it.
        stream: Of the urgent connection.
        tell: Is told on the server's thread what has ended that unexpectedly.

    Attributes:
        sent: See the module.
    """

    thread_name = "page-server"
    noun = "the page server"
    failures = {  # noqa: RUF012 - nobody writes it
        words.ENDED: lambda _: ConnectionBroken("the destination closed the urgent connection"),
        words.BROKEN: _broken,
        words.ILLEGAL: lambda _: RemoteProtocolError("an illegal request on the urgent connection"),
        words.CORRUPT: lambda _: CorruptFrame("a request was changed on its way: wrong checksum"),
    }

    def __init__(
        self,
        memory: GuestMemory,
        sent: NDArray[np.uint8],
        *,
        rate_Bps: float = math.inf,
        stream: StreamFormat = _PLAINEST,
        tell: Callable[[PageferryError], None] | None = None,
    ) -> None:
        if stream.checksum:
            require_checksum()
        if sent.shape != (memory.n_pages,) or sent.dtype != np.uint8:
            raise ValueError(f"expected marks as uint8[{memory.n_pages}]")
        self.sent = sent
        super().__init__(cast(s.ServerControl, words.new_record(s.SERVER_CONTROL)[0]), tell)
        self._ctl.memory_at, self._ctl.focus = memory.address, -1
        self._ctl.checked = stream.checksum
        self.limit(rate_Bps)
        self._arrays = s.ServerArrays(
            ctl=self._ctl,
            sent=sent,
            words=memory.words,
            windows=np.zeros(2 * s.WINDOWS, np.int64),
            chunk=np.zeros(s.CHUNK, np.int64),
            inbox=np.zeros(s.INBOX_WORDS, np.int64),
            head=np.zeros(s.HEAD_WORDS, np.int64),
            iov=np.zeros(s.IOV_WORDS, np.int64),
            scratch=np.zeros(s.SCRATCH_WORDS, np.int64),
        )
        self._socket: socket.socket | None = None
        self._cursor = 0  # where pushing continues
        self._seen_demands = 0
        self._closed = False
        self._warm_up()

    def _warm_up(self) -> None:
        self._ctl.stop = 1
        serve(self._arrays)
        next_unsent(np.ones(1, np.uint8), 0, 1, np.zeros(1, np.int64))

    def limit(self, rate_Bps: float) -> None:
        """Limit the rate of neighbours from now on.

        Args:
            rate_Bps: In bytes/s; infinity: no limit.
        """
        self._ctl.rate_Bps = 0 if math.isinf(rate_Bps) else max(int(rate_Bps), 1)

    def open(self) -> None:
        """Answer requests from now on, first those that have come already."""
        self._ctl.open = 1
        self._wake()

    def serve(self, sock: socket.socket, attempt: int = 0) -> None:
        """Answer on this connection, in a thread.

        When this returns, the thread is at work and no longer needs the interpreter lock.

        Args:
            sock: Made blocking. The caller still owns it, and closes it after `stop`.
            attempt: Which of the session's attempts the connection belongs to.

        Raises:
            LocalProtocolError: There is a connection already, or the server has been closed.
            PageferryError: The thread did not start.
        """
        if self._thread is not None or self._closed:
            raise LocalProtocolError("the page server has a connection, or has ended")
        sock.setblocking(True)
        with contextlib.suppress(OSError):  # not a TCP socket
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _NOTSENT_LOWAT)
        self._socket = sock
        self._begin_anew(sock.fileno(), attempt)
        thread = self._start()
        deadline = time.monotonic() + _START_S
        while not self._ctl.serving:
            thread.raise_failure()
            if time.monotonic() > deadline:
                raise PageferryError("the page server did not start")
            time.sleep(0.0001)

    def _begin_anew(self, fd: int, attempt: int) -> None:
        """Forget what was left of the connection before."""
        ctl = self._ctl
        ctl.serving = ctl.failure = ctl.failure_errno = ctl.filled = ctl.held = 0
        ctl.first_window = ctl.last_window = ctl.sent_ns = ctl.asked = ctl.answered = 0
        ctl.socket, ctl.attempt = fd, attempt

    def _serve(self) -> None:
        serve(self._arrays)

    def stop(self) -> None:
        """End the connection (it is shut down) and the thread; idempotent, in bounded time.

        Raises:
            PageferryError: The thread did not end.
        """
        if self._thread is None or self._socket is None:
            return
        self._ask_to_end()
        with contextlib.suppress(OSError):  # a send that waits for the peer fails now
            self._socket.shutdown(socket.SHUT_RDWR)
        self._join(_STOP_S)
        self._thread = self._socket = None

    def close(self) -> None:
        """Stop, and release descriptors; idempotent."""
        if not self._closed:
            self.stop()
            self._closed = True
            self._close_fds()

    @property
    def answered(self) -> bool:
        """Whether the destination has answered a probe on this connection."""
        return bool(self._ctl.answered)

    # -- with who pushes ----------------------------------------------------------------------

    @property
    def sent_bytes(self) -> int:
        """Bytes on all connections; grows meanwhile. For charging them to the rate limit."""
        return int(self._ctl.sent_bytes)

    @property
    def focus(self) -> int:
        """The page that was demanded last; -1: none yet."""
        return int(self._ctl.focus)

    def take_unsent(self, out: Pages) -> Pages:
        """Take the next pages to push, and mark them as pushed; for one thread.

        They begin `PUSH_LEAD` pages after the last demanded one if there was a new demand, else
        where the last call ended. After the end of memory comes its beginning.

        Args:
            out: int64[n], overwritten: n is the most that is taken.

        Returns:
            The pages, sorted, a view of `out`. Empty: all have been sent.
        """
        demands = int(self._ctl.demands)
        if demands != self._seen_demands:
            self._seen_demands = demands
            self._cursor = (max(self.focus, 0) + PUSH_LEAD) % len(self.sent)
        n = next_unsent(self.sent, self._cursor, len(out), out)
        if n:
            self._cursor = (int(out[n - 1]) + 1) % len(self.sent)
        return out[:n]

    def resync(self, missing: NDArray[np.bool_]) -> None:
        """Set which pages are unsent, after a lost connection.

        Not while a connection is served, nor while somebody pushes.

        Args:
            missing: bool[n_pages], exactly the pages that the destination lacks.

        Raises:
            LocalProtocolError: A connection is served.
            RemoteProtocolError: The map is not of this guest.
        """
        if self._thread is not None:
            raise LocalProtocolError("resync: the page server has a connection")
        if missing.shape != self.sent.shape or missing.dtype != np.bool_:
            raise RemoteProtocolError(f"missing pages of a guest of {len(missing)} pages")
        self.sent[:] = np.where(missing, UNSENT, PUSHED)

    def stats(self) -> ServerStats:
        """Read the counts.

        Returns:
            Counts of all connections so far.
        """
        ctl = self._ctl
        return ServerStats(
            demands=int(ctl.demands),
            crossed=int(ctl.crossed),
            pages=int(ctl.pulled_pages),
            zero_pages=int(ctl.zero_pages),
            sent_bytes=int(ctl.sent_bytes),
            received_bytes=int(ctl.received_bytes),
        )
