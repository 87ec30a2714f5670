"""The rate limit: a schedule, as a pure function of time.

The limiter keeps the moment at which the wire is free again. What is sent moves that moment on by
its size over the rate; a sender waits until it has come. A sender that was late, as on a busy
machine, may catch up by `LATE_S` at most, so that a limit is an average over any longer stretch. It
catches up at a peak rate a little above the limit, so that the stream stays even: a second schedule
like the first, which forgives only `CREDIT_S`, by which a timer may be late.

The kernel can space a socket's packets, too (`kernel_channels`). Then the kernel keeps the peak;
the schedule stays the limit, as it is the only place where the bytes of all connections come
together.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from pageferry.common.report.percentiles import Ranks

CREDIT_S = 0.002
LATE_S = 0.015
PEAK = 1.1  # of the rate
# A slice is what goes out in one call: about a millisecond, so that pauses between slices are long
# enough for a timer to be exact, and short enough for the stream to be smooth.
SLICE_S = 0.00065
SLICE_MIN = 16 * 1024
SLICE_MAX = 4 * 1024 * 1024
KERNEL_PEAK = 1.03
# Where the kernel paces, bytes wait in the socket: the next slice comes before the last has left.
KERNEL_LEAD_S = 0.005
KERNEL_SLICE_S = 0.0025  # it spaces what is in a slice, too
WINDOW_S: Final = 0.01
_MILLION: Final = 1_000_000
_LATE: Final = 1.5  # times what a slice takes at the rate: the next one is late, not a pause yet


@dataclass(slots=True)
class Windows:
    """How evenly bytes left: which share of the rate each window of 10 ms had, in millionths.

    Only windows within a stretch of sending count: bytes left in the window before and in the one
    after. At a low rate one slice has to do for more than a window: windows in which none was due
    count, too, or the others would seem to be beyond the rate. Costs a comparison and an addition a
    slice.

    Attributes:
        ranks: The shares that were counted, in millionths of the rate.
    """

    ranks: Ranks = field(default_factory=Ranks)
    _index: int = -2
    _bytes: int = 0
    _last: int = 0  # of the last slice
    _within: bool = False

    def add(self, n: int, now: float, rate: float) -> None:
        """Count bytes that have left.

        Args:
            n: Bytes of one slice.
            now: Seconds of the clock that all calls use.
            rate: The limit in force, bytes/s; finite.
        """
        # A thread that read the clock before another one may come behind it.
        index = max(int(now / WINDOW_S), self._index)
        if index != self._index:
            empty = index - self._index - 1
            follows = empty <= _LATE * self._last / (rate * WINDOW_S)
            if follows and self._within:
                share = self._bytes / (rate * WINDOW_S)
                self.ranks.add(round(share * _MILLION))
            if follows and empty:
                self.ranks.add(0, empty)
            self._within = follows
            self._index, self._bytes = index, 0
        self._bytes += n
        self._last = n

    @property
    def total(self) -> int:
        """How many windows were counted."""
        return self.ranks.total

    def share(self, quantile: float) -> float:
        """Return the share of the rate in that quantile of the windows.

        Args:
            quantile: 0 to 1.

        Returns:
            1 is the rate itself.

        Raises:
            ValueError: If no window was counted.
        """
        return self.ranks.at([quantile])[0] / _MILLION


class Pacer:
    """The schedule of all channels of a session; safe to use from several threads.

    Times are seconds of any monotonic clock. Channels that are `sending` share the rate: one that
    sends alone, as pushes do in turn, has all of it.

    Args:
        rate: Bytes per second; infinity for no limit.
        kernel_channels: On how many sockets the kernel paces; 0: it does not.

    Attributes:
        rate: May be changed at any time.
        windows: How evenly bytes left, counted only while there is a limit.
    """

    def __init__(self, rate: float, *, kernel_channels: int = 0) -> None:
        self.rate = rate
        self._kernel_channels = kernel_channels
        self._sending = 0
        self._lead_s = KERNEL_LEAD_S if kernel_channels else 0.0
        self._free_at = -math.inf
        self._peak_at = -math.inf
        self._lock = threading.Lock()
        self.windows = Windows()

    @property
    def slice_bytes(self) -> int:
        """How much one call should send."""
        if math.isinf(self.rate):
            return SLICE_MAX
        seconds = KERNEL_SLICE_S if self._kernel_channels else SLICE_S
        return int(min(max(self.rate * seconds, SLICE_MIN), SLICE_MAX))

    @property
    def socket_rate(self) -> int | None:
        """Bytes a second at which the kernel should pace each socket; None: it should not."""
        if not self._kernel_channels or math.isinf(self.rate):
            return None
        share = min(max(self._sending, 1), self._kernel_channels)
        return max(round(self.rate * KERNEL_PEAK / share), 1)

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        """Count one more channel that sends, for as long as this lasts.

        Yields:
            Nothing.
        """
        with self._lock:
            self._sending += 1
        try:
            yield
        finally:
            with self._lock:
                self._sending -= 1

    def reserve(self, n: int, now: float) -> float:
        """Book bytes that are about to be sent.

        Args:
            n: How many.
            now: The time now, in seconds.

        Returns:
            Seconds to wait before they may be sent (0 or more).
        """
        if math.isinf(self.rate):
            return 0.0
        with self._lock:
            if math.isinf(self._free_at):
                self._free_at = now  # who has only begun is not late
            start = max(self._free_at, now - LATE_S)
            self._free_at = start + n / self.rate
            if not self._kernel_channels:
                peak = max(self._peak_at, now - CREDIT_S)
                self._peak_at = peak + n / (PEAK * self.rate)
                start = max(start, peak)
        return max(start - now - self._lead_s, 0.0)

    def sent(self, n: int, now: float) -> None:
        """Count bytes that have been handed to the kernel after the wait: for `windows`.

        Args:
            n: How many.
            now: The time now, in seconds.
        """
        if not math.isinf(self.rate):
            with self._lock:
                self.windows.add(n, now, self.rate)
