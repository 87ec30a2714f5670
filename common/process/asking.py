"""Asking work on another thread to end: what signals are to a command, for callers of the API."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pageferry.common.process import signals

_NUMBER = int(signals.ASKING[0])  # what is asked passes for: Ctrl-C


class Asker:
    """Stands for the signals on one thread, while `here` is entered there.

    As with signals, the innermost receiver hears of it; what was asked before there was one, or
    while it was only noted, waits for the next.
    """

    def __init__(self) -> None:
        # A handler of a signal may interrupt `ask`, on the same thread, and ask again.
        self._lock = threading.RLock()
        self._receivers: list[tuple[Callable[[int], None], bool]] = []
        self._waiting = 0
        self.asked = 0  # times

    @contextmanager
    def here(self) -> Iterator[None]:
        """Inside, the calling thread's work is asked to end by this."""
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
        """Have `receiver` hear of it. keep: leave it for the next receiver instead."""
        with self._lock:
            self._receivers.append((receiver, keep))
            self._deliver()
        try:
            yield
        finally:
            with self._lock:
                self._receivers.pop()

    def _deliver(self) -> None:
        if not self._receivers:
            return
        receiver, keep = self._receivers[-1]
        while self._waiting and not keep:
            self._waiting -= 1
            receiver(_NUMBER)
