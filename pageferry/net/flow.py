"""One direction of a relay: when the bytes of its connections are due. Pure; times are seconds.

Connections know no packets, so nothing is lost or overtakes; what an outage holds up goes on after
it. All connections share the rate, in the order in which their bytes come.
"""

from __future__ import annotations

import math
import random
from typing import Final

from pageferry.common.errors import UsageError
from pageferry.net.schedule import Moment
from pageferry.net.shape import Direction, Shape

LEAST_PIECE: Final = 1448
MOST_PIECE: Final = 64 * 1024
_PIECE_S: Final = 0.002
_LEAST_WINDOW: Final = 128 * 1024
_MOST_WINDOW: Final = 64 << 20


def refuse_packets(shape: Shape, moments: list[Moment]) -> None:
    """Raises `UsageError` where something is asked for that only packets can have."""
    for each in (shape, *(moment.shape for moment in moments)):
        for name in ("loss", "reorder"):
            if getattr(each.forward, name) or getattr(each.back, name):
                raise UsageError(
                    f"--link relay has no {name}: it knows connections, and no packets"
                )


class Flow:
    """The way in one direction."""

    def __init__(self, seed: int = 1) -> None:
        self._direction = Direction()
        self._queue_bytes = 0
        self._free_at = -math.inf
        self._last_due = -math.inf
        self._random = random.Random(seed)  # noqa: S311 - jitter, nothing secret

    def change(self, direction: Direction, shape: Shape) -> None:
        """For bytes that come from now on."""
        self._direction = direction
        self._queue_bytes = shape.queue_bytes(direction)

    @property
    def piece(self) -> int:
        """How many bytes to take at a time: two milliseconds' worth."""
        if math.isinf(self._direction.rate):
            return MOST_PIECE
        return int(min(max(self._direction.rate * _PIECE_S, LEAST_PIECE), MOST_PIECE))

    @property
    def window(self) -> int:
        """How many bytes of one connection may be under way; its sender waits with the rest."""
        if math.isinf(self._direction.rate):
            return _MOST_WINDOW
        flying = int(self._direction.rate * (self._direction.delay + self._direction.jitter))
        return min(max(flying + self._queue_bytes, _LEAST_WINDOW), _MOST_WINDOW)

    def due(self, size: int, now: float) -> float:
        """When `size` bytes that come at `now` arrive, never before those that came earlier."""
        direction = self._direction
        self._free_at = max(self._free_at, now) + size / direction.rate
        due = self._free_at + direction.delay
        if direction.jitter:
            due += self._random.uniform(-direction.jitter, direction.jitter)
        self._last_due = max(self._last_due, due)
        return self._last_due
