"""The rate limit: a schedule, as a pure function of time.

The limiter keeps the moment at which the wire is free again. What is sent moves that moment on by
its size over the rate; a sender waits until it has come. A sender that was late may catch up by
`credit_s` at the most, so that a limit is an average over any longer stretch, and a burst after a
long pause is short.
"""

from __future__ import annotations

import math
import threading

CREDIT_S = 0.004
# A slice is what goes out in one call: about a millisecond, so that pauses between slices are long
# enough for a timer to be exact, and short enough for the stream to be smooth.
SLICE_S = 0.00065
SLICE_MIN = 16 * 1024
SLICE_MAX = 1024 * 1024


class Pacer:
    """Shared by all channels of a session; safe to use from several threads.

    rate: bytes per second; infinity for no limit. Times are seconds of any monotonic clock.
    """

    def __init__(self, rate: float, *, credit_s: float = CREDIT_S) -> None:
        self.rate = rate
        self._credit_s = credit_s
        self._free_at = -math.inf
        self._lock = threading.Lock()

    @property
    def slice_bytes(self) -> int:
        """How much one call should send."""
        if math.isinf(self.rate):
            return SLICE_MAX
        return int(min(max(self.rate * SLICE_S, SLICE_MIN), SLICE_MAX))

    def reserve(self, n: int, now: float) -> float:
        """Book `n` bytes; returns the seconds to wait before they may be sent (0 or more)."""
        if math.isinf(self.rate):
            return 0.0
        with self._lock:
            start = max(self._free_at, now - self._credit_s)
            self._free_at = start + n / self.rate
        return max(start - now, 0.0)
