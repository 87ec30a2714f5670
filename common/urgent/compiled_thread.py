"""A thread of compiled code that needs no interpreter lock, and how Python deals with it.

    __init__      before the downtime: the subclass takes its memory, and compiles by running once
    _start        the thread is at work
    event_fd      becomes readable when the thread has something to tell: `clear_event`, `failure`
    _end          the thread is gone; it may be started again
    _close_fds    after that

It is told by its control words and by one eventfd, and tells by the same means.
"""

from __future__ import annotations

import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, Generic, TypeVar

from pageferry.common.errors import PageferryError
from pageferry.common.process.scheduling import ask_for_short_slices
from pageferry.common.process.threads import WatchedThread
from pageferry.common.urgent.control import ThreadControl

_Control = TypeVar("_Control", bound=ThreadControl)


class CompiledThread(ABC, Generic[_Control]):
    """Owns the thread and its eventfds; `ctl` is the subclass's record, which has not run yet.

    Args:
        tell: hears, on the thread, what has ended it unexpectedly.

    Attributes:
        event_fd: see `failure` and the other words when it is readable.
    """

    thread_name: ClassVar[str]
    noun: ClassVar[str]  # for people
    # What a code of `ctl.failure` means; each is given the system's error number, or 0.
    failures: ClassVar[Mapping[int, Callable[[int], PageferryError]]]

    def __init__(self, ctl: _Control, tell: Callable[[PageferryError], None] | None = None) -> None:
        flags = os.EFD_NONBLOCK | os.EFD_CLOEXEC
        self._wake_fd, self.event_fd = os.eventfd(0, flags), os.eventfd(0, flags)
        self._ctl = ctl
        ctl.wake_fd, ctl.event_fd = self._wake_fd, self.event_fd
        self._tell = tell
        self._thread: WatchedThread | None = None

    @abstractmethod
    def _serve(self) -> None:
        """Run the compiled code until `stop`, or until its connection has ended."""

    def _start(self) -> WatchedThread:
        self._ctl.stop = 0
        self._thread = WatchedThread(self._live, self.thread_name, self._died)
        self._thread.start()
        return self._thread

    def _live(self) -> None:
        ask_for_short_slices()
        self._serve()

    def _died(self, failure: PageferryError) -> None:
        """Whoever watches looks at what became of it."""
        os.eventfd_write(self.event_fd, 1)
        if self._tell is not None:
            self._tell(failure)

    def _wake(self) -> None:
        """Have the thread look at its control words."""
        os.eventfd_write(self._wake_fd, 1)

    def _ask_to_end(self) -> None:
        self._ctl.stop = 1
        self._wake()

    def _join(self, timeout_s: float) -> None:
        """Wait for its end. Raises `PageferryError` where it does not come."""
        if self._thread is None:
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise PageferryError(f"{self.noun} did not end")

    @property
    def failure(self) -> PageferryError | None:
        """Why it dropped its connection, or has died; None: neither."""
        if self._thread is not None and self._thread.failure is not None:
            return self._thread.failure
        made = self.failures.get(int(self._ctl.failure))
        return None if made is None else made(int(self._ctl.failure_errno))

    def clear_event(self) -> None:
        """After `event_fd` was readable."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.event_fd)

    def _close_fds(self) -> None:
        os.close(self._wake_fd)
        os.close(self.event_fd)
