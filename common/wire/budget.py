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
LARGE_BYTES: Final = 16 << 20  # of a buffer that holds any frame
SMALL_BYTES: Final = 1 << 20  # of a buffer that every channel may keep, besides the above


@dataclass(eq=False, slots=True)
class _Waiter:
    bytes: int
    own: int
    wake: Callable[[], object]


class Budget:
    """Bytes of one session, for its threads and its loop.

    Whoever holds something goes first, or two would wait for each other; so only one may ask for
    more while it holds something: the control connection.

    Args:
        most: Bytes that may be held at once.
        kept: Further bytes, of buffers that are kept from frame to frame.
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
        """Draw bytes if there is room and nobody waits for it.

        Args:
            n: Bytes.

        Returns:
            Whether they were drawn.
        """
        with self._lock:
            return not self._waiting and self._took(n, 0)

    def keep(self, n: int) -> bool:
        """Draw the bytes of a buffer that is to be kept from frame to frame, if there is room.

        Args:
            n: Bytes; a negative number gives them back.

        Returns:
            Whether they were drawn.
        """
        with self._lock:
            granted = n <= self._to_keep
            self._to_keep -= n * granted
            return granted

    async def take(self, n: int, own: int = 0) -> None:
        """Draw bytes; return when there was room; for the loop.

        Args:
            n: Bytes, besides `own`.
            own: What the asker holds already.
        """
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
        """Give bytes back; from any thread.

        Args:
            n: Bytes that are not held any more.
        """
        with self._lock:
            self._held -= n
            self._grant()

    def _took(self, n: int, own: int) -> bool:
        fits = self._held + n <= self._most or self._held == own
        if fits:
            self._held += n
        return fits

    def _join(self, n: int, own: int, wake: Callable[[], object]) -> _Waiter | None:
        """Draw bytes, or wait in line; None: they were drawn."""
        with self._lock:
            if (own or not self._waiting) and self._took(n, own):
                return None
            waiter = _Waiter(n, own, wake)
            self._waiting.append(waiter)
            return waiter

    def leave(self, waiter: _Waiter) -> None:
        """Wait no longer; what has just been granted goes back.

        Args:
            waiter: As `_join` returned it.
        """
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


class BudgetShare:
    """What one receiving thread draws for the frame that it is reading.

    Args:
        budget: The session's.

    Attributes:
        keeps: Bytes of the buffer that it may keep from frame to frame.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._held = 0
        self._closed = False
        self._woken = threading.Event()
        self.keeps = LARGE_BYTES if budget.keep(LARGE_BYTES) else SMALL_BYTES

    def take(self, n: int) -> None:
        """Draw what a frame needs; return when there was room.

        The first call for a frame has to ask for all of it: further ones draw nothing.

        Args:
            n: Bytes; 0 draws nothing.

        Raises:
            ConnectionBroken: If the share is closed meanwhile.
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
        """Give back what the frame drew; for the thread that took it, or after its end."""
        held, self._held = self._held, 0
        if held:
            self._budget.give(held)

    def close(self) -> None:
        """Wake whoever waits here, which then fails; from any thread."""
        with self._lock:
            self._closed = True
            self._woken.set()

    def end(self) -> None:
        """Give back everything, held and kept; after the thread's end."""
        self.give_back()
        if self.keeps == LARGE_BYTES:
            self.keeps = 0
            self._budget.keep(-LARGE_BYTES)
