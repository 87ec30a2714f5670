"""Asking work on another thread to end: what signals are to a command, for callers of the API."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pageferry.common.process import signals

_NUMBER = int(signals.ASKING[0])  # a request is passed on as Ctrl-C


class Asker:
    """The counterpart of signals on one thread, while `here` is entered there.

    As with signals, the innermost receiver is told. A request that came before there was one, or
    while it was only noted, waits for the next receiver.

    Attributes:
        asked: How many times the work has been asked to end.
    """

    def __init__(self) -> None:
        # A signal handler may interrupt `ask`, on the same thread, and ask again.
        self._lock = threading.RLock()
        self._receivers: list[tuple[Callable[[int], None], bool]] = []
        self._waiting = 0
        self.asked = 0  # times

    @contextmanager
    def here(self) -> Iterator[None]:
        """Have the calling thread's work asked to end through this object.

        Yields:
            Nothing.
        """
        ident = threading.get_ident()
        signals.ASKERS[ident] = self
        try:
            yield
        finally:
            del signals.ASKERS[ident]

    def ask(self) -> None:
        """Ask the work to end; from any thread, any number of times."""
        with self._lock:
            self.asked += 1
            self._waiting += 1
            self._deliver()

    @contextmanager
    def received(self, receiver: Callable[[int], None], *, keep: bool) -> Iterator[None]:
        """Have a receiver told of each request.

        Args:
            receiver: Called with the number of SIGINT, on the thread that asks, or here for
                requests that waited.
            keep: Whether requests are left for the next receiver instead.

        Yields:
            Nothing.
        """
        with self._lock:
            self._receivers.append((receiver, keep))
            self._deliver()
        try:
            yield
        finally:
            with self._lock:
                self._receivers.pop()

    def _deliver(self) -> None:
        """Tell the innermost receiver of the requests that wait."""
        if not self._receivers:
            return
        receiver, keep = self._receivers[-1]
        while self._waiting and not keep:
            self._waiting -= 1
            receiver(_NUMBER)
