"""A thread of compiled code that runs without the interpreter lock, and how Python controls it.

    __init__       before the downtime: the subclass allocates its memory, and compiles by running
                   the code once
    _start         starts the thread
    event_fd       becomes readable when the thread has something to tell: `clear_event`, `failure`
    _ask_to_end    has the thread end; `_join` waits for that; it may be started again
    _close_fds     after that

Python talks to it through its control words and one eventfd, and it answers by the same means.
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
    """Owner of the thread and of its eventfds.

    Args:
        ctl: The subclass's control record, on which no thread runs yet. It is kept, and both of its
            descriptors are set here.
        tell: Called on the thread with what has ended it unexpectedly; None: only `failure` says
            so.

    Attributes:
        event_fd: Non-blocking eventfd. When it is readable, look at `failure` and the other words.
        thread_name: As the system shows the thread.
        noun: What messages call the thread.
        failures: What each code of `ctl.failure` means: makes the error from the system's error
            number, which may be 0.
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
        """Run the compiled code until `stop` is set, or until its connection has ended."""

    def _start(self) -> WatchedThread:
        self._ctl.stop = 0
        self._thread = WatchedThread(self._live, self.thread_name, self._died)
        self._thread.start()
        return self._thread

    def _live(self) -> None:
        ask_for_short_slices()
        self._serve()

    def _died(self, failure: PageferryError) -> None:
        """Wake whoever watches `event_fd`, and pass the failure on to `tell`."""
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
        """Wait for the thread's end; raise `PageferryError` if it does not come in time."""
        if self._thread is None:
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise PageferryError(f"{self.noun} did not end")

    @property
    def failure(self) -> PageferryError | None:
        """What made the thread drop its connection, or killed it; None: neither."""
        if self._thread is not None and self._thread.failure is not None:
            return self._thread.failure
        made = self.failures.get(int(self._ctl.failure))
        return None if made is None else made(int(self._ctl.failure_errno))

    def clear_event(self) -> None:
        """Reset `event_fd` after it was readable; harmless where it was not."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.event_fd)

    def _close_fds(self) -> None:
        os.close(self._wake_fd)
        os.close(self.event_fd)
