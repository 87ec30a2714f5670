"""What a session's peer can make its other end hold at once: one number of bytes for all of it.

Messages that wait for their turn or have come in part, sources that are back, and the buffers of
large frames draw from it. Who finds too little waits and reads no further, so that the peer waits,
too. What is larger than the whole budget has to wait until nothing else is held.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from pageferry.common.errors import ConnectionBroken

SESSION_BYTES: Final = 16 << 20
KEPT_BYTES: Final = 64 << 20  # buffers of channels, from frame to frame: fresh ones take time
LARGE_BYTES: Final = 16 << 20  # of one that holds any frame
SMALL_BYTES: Final = 1 << 20  # of one that every channel may keep, beside the above


@dataclass(eq=False, slots=True)
class _Waiter:
    bytes: int
    own: int
    wake: Callable[[], object]


class Budget:
    """Bytes of one session, for its threads and its loop. most: bytes; kept: others, of buffers.

    own: what the asker holds already. Whoever holds something goes first, or two would wait for
    each other, so that one only may ask for more while it holds something: the control connection.
    """

    def __init__(self, most: int = SESSION_BYTES, kept: int = KEPT_BYTES) -> None:
        self._most = most
        self._to_keep = kept
        self._lock = threading.Lock()
        self._held = 0
        self._waiting: list[_Waiter] = []

    @property
    def held(self) -> int:
        """Bytes that are in use."""
        return self._held

    def take_now(self, n: int) -> bool:
        """Whether there was room, and nobody waits for it."""
        with self._lock:
            return not self._waiting and self._took(n, 0)

    def keep(self, n: int) -> bool:
        """Whether a buffer of so many bytes may be kept; a negative one is given back."""
        with self._lock:
            granted = n <= self._to_keep
            self._to_keep -= n * granted
            return granted

    async def take(self, n: int, own: int = 0) -> None:
        """Return when there is room; for the loop."""
        wake, granted = asyncio.get_running_loop().call_soon_threadsafe, asyncio.Event()
        waiter = self._join(n, own, partial(wake, granted.set))
        if waiter is None:
            return
        try:
            await granted.wait()
        except asyncio.CancelledError:
            self.leave(waiter)
            raise

    def give(self, n: int) -> None:
        """So many bytes are not held any more; from any thread."""
        with self._lock:
            self._held -= n
            self._grant()

    def _took(self, n: int, own: int) -> bool:
        fits = self._held + n <= self._most or self._held == own
        if fits:
            self._held += n
        return fits

    def _join(self, n: int, own: int, wake: Callable[[], object]) -> _Waiter | None:
        """None: it has got it."""
        with self._lock:
            if (own or not self._waiting) and self._took(n, own):
                return None
            waiter = _Waiter(n, own, wake)
            self._waiting.append(waiter)
            return waiter

    def leave(self, waiter: _Waiter) -> None:
        """It waits no longer; what it has just been given goes back."""
        with self._lock:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            else:
                self._held -= waiter.bytes
            self._grant()

    def _grant(self) -> None:
        for waiter in sorted(self._waiting, key=lambda each: not each.own):
            if not self._took(waiter.bytes, waiter.own):
                break
            self._waiting.remove(waiter)
            waiter.wake()


class Share:
    """What one receiving thread draws for the frame that it is at.

    keeps: bytes of the buffer that it may keep from frame to frame.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._held = 0
        self._closed = False
        self._woken = threading.Event()
        self.keeps = LARGE_BYTES if budget.keep(LARGE_BYTES) else SMALL_BYTES

    def take(self, n: int) -> None:
        """Return when there is room for that.

        Who has asked for a frame first has asked for all of it.

        Raises `ConnectionBroken` when the share is closed.
        """
        if self._held or not n:
            return
        self._woken.clear()
        waiter = self._budget._join(n, 0, self._woken.set)
        if waiter is not None:
            with self._lock:
                if self._closed:
                    self._woken.set()
            self._woken.wait()
            if self._closed:
                self._budget.leave(waiter)
                raise ConnectionBroken("a bulk connection was given up")
        self._held = n

    def give_back(self) -> None:
        """The frame has been dealt with; for the thread that took it, or after its end."""
        held, self._held = self._held, 0
        if held:
            self._budget.give(held)

    def close(self) -> None:
        """From any thread: whoever waits is woken."""
        with self._lock:
            self._closed = True
            self._woken.set()

    def end(self) -> None:
        """After the thread's end: nothing is held or kept."""
        self.give_back()
        if self.keeps == LARGE_BYTES:
            self.keeps = 0
            self._budget.keep(-LARGE_BYTES)
