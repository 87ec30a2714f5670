"""One direction of a relay: when the bytes of its connections are due. Pure; times are seconds.

Connections know no packets, so nothing is lost or overtaken; what an outage holds up is delivered
after it. All connections share the rate, in the order in which their bytes come.
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
    """Refuse what only a link of packets can have: loss and reordering.

    Args:
        shape: What the link is asked to be at first.
        moments: What it is asked to become later.

    Raises:
        UsageError: One of them has loss or reorder.
    """
    for each in (shape, *(moment.shape for moment in moments)):
        for name in ("loss", "reorder"):
            if getattr(each.forward, name) or getattr(each.back, name):
                raise UsageError(
                    f"--link relay has no {name}: it knows connections, and no packets"
                )


class ByteFlow:
    """One direction of a relay, shared by all of its connections; unshaped until `change`.

    Args:
        seed: Seed of the jitter.
    """

    def __init__(self, seed: int = 1) -> None:
        self._direction = Direction()
        self._queue_bytes = 0
        self._free_at = -math.inf
        self._last_due = -math.inf
        self._random = random.Random(seed)  # noqa: S311 - jitter, nothing secret

    def change(self, direction: Direction, shape: Shape) -> None:
        """Take a new rate, delay and queue, for bytes that come from now on.

        Args:
            direction: What this direction is from now on.
            shape: The link that it is a direction of; sizes the queue.
        """
        self._direction = direction
        self._queue_bytes = shape.queue_bytes(direction)

    @property
    def piece(self) -> int:
        """How many bytes to take at a time: two milliseconds' worth, within bounds."""
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
        """Compute when bytes arrive, and book their time on the link.

        Args:
            size: How many bytes.
            now: When they come, in seconds of any one clock; must not run backwards.

        Returns:
            When they arrive, by the same clock; never before bytes that came earlier.
        """
        direction = self._direction
        self._free_at = max(self._free_at, now) + size / direction.rate
        due = self._free_at + direction.delay
        if direction.jitter:
            due += self._random.uniform(-direction.jitter, direction.jitter)
        self._last_due = max(self._last_due, due)
        return self._last_due
