"""Link and guest as a strategy meets them in virtual time: what is stale when, what sending costs.

What becomes stale is a function of how long the guest has run since its pages were last taken
(`StaleCurve`): measured points, joined by straight lines. `common.strategy.forecast` plays
strategies against these `Conditions`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from pageferry.common.strategy.base import CacheStats
from pageferry.common.strategy.carrying import Carrying, FixedRate


class StaleCurve:
    """How much is stale some time after everything was sent, through measured points.

    Beyond the last point the curve goes on as steeply as its second half is on average.

    Args:
        points: (seconds, amount), in any order. A point below an earlier one counts as high as that
            one: what is stale stays so.
        most: The amount is never more.
    """

    def __init__(self, points: Iterable[tuple[float, float]], most: float) -> None:
        self._most = most
        self._x, self._y = [0.0], [0.0]
        for seconds, amount in sorted(_averaged(points)):
            if seconds > 0:
                self._x.append(seconds)
                self._y.append(min(max(amount, self._y[-1]), most))

    def __call__(self, seconds: float) -> float:
        """Return the amount, not always a whole number; 0 where nothing has been measured."""
        x, y = self._x, self._y
        if len(x) == 1 or seconds <= 0:
            return 0.0
        if seconds >= x[-1]:
            # The slope of the second half, which forgets how fast the first pages were dirtied.
            half = bisect_right(x, x[-1] / 2) - 1
            slope = (y[-1] - y[half]) / (x[-1] - x[half]) if x[-1] > x[half] else 0.0
            return min(y[-1] + slope * (seconds - x[-1]), self._most)
        at = bisect_right(x, seconds)
        share = (seconds - x[at - 1]) / (x[at] - x[at - 1])
        return y[at - 1] + share * (y[at] - y[at - 1])


def _averaged(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Merge points whose times differ by less than a tenth: rounds repeat themselves."""
    out: list[tuple[float, float]] = []
    group: list[tuple[float, float]] = []
    for point in sorted(points):
        if group and point[0] > 1.1 * group[0][0]:
            out.append(_mean(group))
            group = []
        group.append(point)
    return [*out, _mean(group)] if group else out


def _mean(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Return the mean of points."""
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)


class Stale(NamedTuple):
    """Pages of which the destination does not have the latest content, and what sending them costs.

    Some pages may be both in memory and in the cache, so the two shares add up to one or more.

    Attributes:
        pages: How many there are.
        bytes: What a round of them puts on the wire.
        memory_share: The share of both that a round without a drain sends.
        cached_share: The share of both that it leaves to the cache.
        cached_lines: What a drain has to write back, where that is known.
        lines: 64-byte lines that changed in them, where that is known.
        cached_from_s: Since when the guest has written what the cache holds, in its own time from
            the migration's start, where that is known.
    """

    pages: float
    bytes: float
    memory_share: float = 1.0
    cached_share: float = 0.0
    cached_lines: float = 0.0
    lines: float = 0.0
    cached_from_s: float = 0.0

    def split(self) -> tuple[Stale, Stale]:
        """Split into what a round without a drain sends, and what it leaves.

        Returns:
            (Sent, left).
        """
        there, here = self.memory_share, self.cached_share
        return (
            Stale(self.pages * there, self.bytes * there, lines=self.lines * there),
            Stale(
                *(self.pages * here, self.bytes * here, 0.0, 1.0),
                cached_lines=self.cached_lines,
                lines=self.lines * here,
                cached_from_s=self.cached_from_s,
            ),
        )

    def and_then(self, later: Stale, most: float) -> Stale:
        """Add what became stale later, as if those were other pages.

        Args:
            later: What became stale since.
            most: There are at most so many pages.

        Returns:
            Both together.
        """
        pages = self.pages + later.pages
        mine = self.pages / pages if pages else 0.0
        return Stale(
            min(pages, most),
            self.bytes + later.bytes,
            self.memory_share * mine + later.memory_share * (1 - mine),
            self.cached_share * mine + later.cached_share * (1 - mine),
            self.cached_lines + later.cached_lines,
            self.lines + later.lines,
        )


@dataclass(frozen=True, slots=True)
class Conditions:
    """Link and guest.

    Attributes:
        pages_total: Pages of the guest.
        full_bytes: What sending all of memory puts on the wire.
        missing_page_bytes: What a page costs that post-copy moves.
        bandwidth_Bps: Of the link or its limit.
        round_s: What a round takes beyond its bytes.
        decide_s: How long the guest runs on from a round's end until the next one takes its pages,
            or stops it.
        switchover_s: What a stop costs beyond its last pages.
        last_bytes, last_s: The last pages of one stop that was measured, and what they took.
        stale: What becomes stale while the guest runs for so many seconds.
        discard_page_s: What a page adds to a switch where the destination has an old copy of it.
    """

    pages_total: int
    full_bytes: int
    missing_page_bytes: float
    bandwidth_Bps: float
    round_s: float
    decide_s: float
    switchover_s: float
    last_bytes: float
    last_s: float
    stale: Callable[[float], Stale]
    discard_page_s: float = field(default=0.0, kw_only=True)

    # The simulator, which knows the guest better, overrides what follows.

    def runs(self, begun_s: float, seconds: float) -> float:
        """Return how far a guest comes in the time it has; what it does may slow it down.

        Args:
            begun_s: The guest's own time at the start, from the migration's start. Makes no
                difference here.
            seconds: The time it has.

        Returns:
            Seconds of the guest's own time.
        """
        del begun_s
        return seconds

    def stale_between(self, begun_s: float, ran_s: float) -> Stale:
        """Return what becomes stale in a stretch of the guest's own time.

        Args:
            begun_s: When it begins, from the migration's start. Makes no difference here.
            ran_s: How long it is.

        Returns:
            What is stale after it, if nothing was before.
        """
        del begun_s
        return self.stale(ran_s)

    def left(self, kept: Stale, begun_s: float, ran_s: float, *, held: bool) -> Stale:
        """Return what is stale after a round, with what the round kept back.

        Args:
            kept: What it left to the cache; nothing where it drained.
            begun_s: When the round took its pages, the guest's own time.
            ran_s: How long the guest has run since.
            held: Whether the cache holds its write-backs. Makes no difference here.

        Returns:
            All that is stale.
        """
        del held
        return kept.and_then(self.stale_between(begun_s, ran_s), self.pages_total)

    def cache_stats(self, begun_s: float, ran_s: float, left: Stale) -> CacheStats | None:
        """Return what the guest's cache did in a round.

        Args:
            begun_s: When the guest began it, the guest's own time. Makes no difference here.
            ran_s: How long the guest ran. Makes no difference here.
            left: What is stale at its end. Makes no difference here.

        Returns:
            None: nothing is known of a cache.
        """
        del begun_s, ran_s, left
        return None

    def round_seconds(self, size: float, cached: Stale, sent: float) -> float:
        """Return how long a round takes.

        Args:
            size: Its bytes.
            cached: What is drained first. Makes no difference here.
            sent: Bytes that the connections have carried before. Makes no difference here.

        Returns:
            Seconds from its order to its end.
        """
        del cached, sent
        return size / self.bandwidth_Bps + self.round_s

    def carrying(self) -> Carrying:
        """Return what a source knows of the link at the start; `run` tells it of each round.

        Returns:
            A fresh object.
        """
        return FixedRate(self.bandwidth_Bps, 0.0)

    def begins_s(self, cached: Stale) -> float:
        """Return what a round takes before its first page: it tells a source nothing of the link.

        Args:
            cached: What is drained first. Makes no difference here.

        Returns:
            Seconds.
        """
        del cached
        return 0.0

    def believed_s(self, left: Stale) -> float:
        """Return how long the source believes the switch-over takes when it decides.

        Args:
            left: What is stale. Makes no difference here.

        Returns:
            Seconds.
        """
        del left
        return self.switchover_s

    def stop_seconds(self, left: Stale, sent: float) -> float:
        """Return the downtime of a stop.

        Args:
            left: What is stale.
            sent: Bytes that the connections have carried before. Makes no difference here.

        Returns:
            Seconds.
        """
        del sent
        return self.last_pages_s(left.bytes) + self.switchover_s

    @property
    def answer_s(self) -> float:
        """From the resume after a stop until the source hears of it, and is no longer needed."""
        return 0.0

    def switch_seconds(self, missing_pages: float) -> float:
        """Return the downtime of a switch to post-copy, without what old copies add to it.

        Args:
            missing_pages: Pages that are missing afterwards. Makes no difference here.

        Returns:
            Seconds.
        """
        del missing_pages
        return self.switchover_s

    def supply(
        self, missing_pages: float, size: float, sent: float, *, push: bool
    ) -> tuple[float, float]:
        """Return what it takes from a switch until the source knows that nothing is missing.

        Args:
            missing_pages: Pages that are missing. Makes no difference here.
            size: What sending them puts on the wire, as far as is known.
            sent: Bytes that the connections have carried before. Makes no difference here.
            push: Whether pages are sent unasked. Makes no difference here.

        Returns:
            Seconds, and bytes on the wire.
        """
        del missing_pages, sent, push
        return size / self.bandwidth_Bps, size

    def last_pages_s(self, size: float) -> float:
        """Return how long the guest stands still for the last pages.

        A rate limit lets the first bytes after a rest go at once, so small stops take less than
        their share of the rate. Up to the size of the stop that was measured, they take what that
        took beyond its bytes, and their share of the rest.

        Args:
            size: Bytes on the wire.

        Returns:
            Seconds.
        """
        if size < self.last_bytes:
            beyond_s = max(self.last_s - self.last_bytes / self.bandwidth_Bps, 0.0)
            return beyond_s + (self.last_s - beyond_s) * size / self.last_bytes
        return self.last_s + (size - self.last_bytes) / self.bandwidth_Bps
