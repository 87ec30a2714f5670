"""The fault handler's thread, and the orders that it takes: a connection to use, or its end.

Python writes its words of the control record, counts up `command`, and waits until the handler has
applied it.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from abc import abstractmethod
from typing import Final

from pageferry.common.errors import (
    ConnectionBroken,
    CorruptFrame,
    LocalProtocolError,
    PageferryError,
    RemoteProtocolError,
)
from pageferry.common.process.threads import WatchedThread
from pageferry.common.urgent import control as words
from pageferry.common.urgent.compiled_thread import CompiledThread
from pageferry.common.userfault import UserfaultError
from pageferry.dest_agent.postcopy.kernel import state as a
from pageferry.dest_agent.postcopy.kernel.handler import serve

ANSWER_S: Final = 10.0  # the handler blocks nowhere but where we can wake it


class HandlerThread(CompiledThread[a.FaultControl]):
    """Owner of the compiled handler's thread and of its connection.

    Args:
        ctl: The handler's control record, on which no thread runs yet.
    """

    thread_name = "faults"
    noun = "the fault handler"
    failures = {  # noqa: RUF012 - nobody writes it
        words.ENDED: lambda _: ConnectionBroken("the source closed the urgent connection"),
        words.BROKEN: lambda number: ConnectionBroken(
            f"the urgent connection broke: {os.strerror(number)}"
        ),
        words.ILLEGAL: lambda _: RemoteProtocolError("an illegal frame on the urgent connection"),
        words.CORRUPT: lambda _: CorruptFrame(
            "a demanded page was changed on its way: wrong checksum"
        ),
        a.UNPLACEABLE: lambda number: UserfaultError("placing a page", number),
        a.UNREAD: lambda _: ConnectionBroken("the source does not read requests for pages"),
    }

    def __init__(self, ctl: a.FaultControl) -> None:
        super().__init__(ctl)
        ctl.wanted_socket = ctl.socket = -1
        self._done_fd = ctl.done_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._socket: socket.socket | None = None
        self._ordering = threading.Lock()
        self._arrays: a.FaultArrays
        self._handler: WatchedThread

    @property
    @abstractmethod
    def _is_over(self) -> bool:
        """Whether the handler takes no connection any more."""

    def _begin(self, arrays: a.FaultArrays) -> None:
        """Start the thread. It works on these arrays, which have our control record."""
        self._arrays = arrays
        self._handler = self._start()

    def _serve(self) -> None:
        serve(self._arrays)

    def _died(self, failure: PageferryError) -> None:
        """Wake whoever waits for an answer, too, to see what became of the handler."""
        os.eventfd_write(self._done_fd, 1)
        super()._died(failure)

    def connect(self, sock: socket.socket, attempt: int = 0) -> None:
        """Use this connection from now on, from the beginning of a frame.

        It is probed, which keeps it open. Pages that come before `arm` are illegal. Every page that
        is waited for is asked for, again if need be. An earlier failure is forgotten.

        Args:
            sock: Behind the hello; the caller owns it, and closes it only after `disconnect` or
                `close`.
            attempt: Of the connection, for its probes.

        Raises:
            PageferryError: The handler has ended, or does not answer.
        """
        self._use_socket(sock, attempt)

    @property
    def answered(self) -> bool:
        """Whether the source has answered a probe on this connection; `event_fd` tells of it."""
        return bool(self._ctl.answered)

    def disconnect(self) -> None:
        """Have the handler let go of its connection and go on collecting faults; idempotent.

        The caller may close the socket then. Does nothing once the handler has ended.
        """
        if self._handler.is_alive():
            self._use_socket(None)

    def settle(self) -> None:
        """Place nothing that comes from now on over the urgent connection, but keep that open."""
        with self._ordering:
            self._ctl.settled = 1
            if self._handler.is_alive():
                self._order(ANSWER_S)

    def _use_socket(
        self, sock: socket.socket | None, attempt: int = 0, timeout_s: float = ANSWER_S
    ) -> None:
        if self._is_over:
            raise LocalProtocolError("the fault handler has ended")
        with self._ordering:
            self._ctl.wanted_socket = -1 if sock is None else sock.fileno()
            self._ctl.attempt = attempt
            self._ctl.anew = 1
            self._order(timeout_s)
            self._ctl.anew = 0
            self._socket = sock  # keeps it from being collected and its number from being reused

    def _order(self, timeout_s: float) -> None:
        """Have the handler look at what Python has written, and wait until it has."""
        self._ctl.command += 1
        self._wake()
        poll = select.poll()
        poll.register(self._done_fd, select.POLLIN)
        deadline = time.monotonic() + timeout_s
        while self._ctl.applied != self._ctl.command:
            left = deadline - time.monotonic()
            self._handler.raise_failure()
            if left <= 0 or not self._handler.is_alive():
                raise PageferryError("the fault handler does not answer")
            if poll.poll(min(left, 1.0) * 1000):
                os.eventfd_read(self._done_fd)

    def _end_handler(self) -> None:
        self._ask_to_end()
        self._join(ANSWER_S)

    def _close_fds(self) -> None:
        super()._close_fds()
        os.close(self._done_fd)
