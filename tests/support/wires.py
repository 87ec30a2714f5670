"""Relays for tests whose cases are threads: all on one event loop, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from tests.support.relay import Relay, relay

_T = TypeVar("_T")


class Wire:
    """One relay, from any thread. port: where the source has to connect to."""

    def __init__(self, wires: Wires, middle: Relay, port: int) -> None:
        self._wires = wires
        self._middle = middle
        self.port = port

    def delay(self, seconds: float) -> None:
        """Each way, of what comes from now on."""
        self._middle.delay_s = seconds

    def refuse(self, refuse: bool) -> None:
        """Whether new connections are turned away."""
        self._middle.refuse = refuse

    def reset(self) -> tuple[int, int, int]:
        """Reset all that stand: from when to when (CLOCK_MONOTONIC ns), and how many ends."""
        return self._wires.call(lambda: self._timed(self._middle.reset))

    def hold(self) -> tuple[int, int]:
        """Nothing passes from now on; when it began, as above."""
        began, ended, _ = self._wires.call(lambda: self._timed(self._middle.hold))
        return began, ended

    def release(self) -> int:
        """All goes on; when (CLOCK_MONOTONIC ns)."""
        return self._wires.call(lambda: self._timed(self._middle.release))[1]

    def _timed(self, act: Callable[[], int | None]) -> tuple[int, int, int]:
        began = time.monotonic_ns()
        ends = act()
        return began, time.monotonic_ns(), ends or 0


class Wires:
    """The loop, until it is closed."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_debug(False)  # bytes of many cases go through it
        self._thread = threading.Thread(target=self._loop.run_forever, name="wires", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def to(self, port: int) -> Iterator[Wire]:
        """A relay to that port of loopback."""
        stack = contextlib.AsyncExitStack()
        middle, own = self.run(stack.enter_async_context(relay(port)))
        wire = Wire(self, middle, own)
        try:
            yield wire
        finally:
            wire.release()  # who waits for that would be left
            self.run(stack.aclose())

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run it there; what it gives."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def call(self, act: Callable[[], _T]) -> _T:
        """Call it there; what it gives."""

        async def calling() -> _T:
            return act()

        return self.run(calling())

    def close(self) -> None:
        """No relay is left by now."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
