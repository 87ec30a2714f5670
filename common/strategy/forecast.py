"""What a strategy would cost, in virtual time: the same objects that decide about real rounds.

`Conditions` says what link and guest are like, `run` plays a strategy against them. What becomes
stale is a function of how long the guest has run since its pages were last taken (`Curve`):
measured points, joined by straight lines. A throttled guest runs for a part of the time only.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final, NamedTuple

from pageferry.common.config.strategy import StrategyConfig
from pageferry.common.strategy.base import (
    Decision,
    NextRound,
    RoundKind,
    RoundStats,
    StopAndCopy,
    Strategy,
    SwitchToPostCopy,
)
from pageferry.common.strategy.carrying import Carrying, Fixed
from pageferry.common.strategy.converge import EARLY_S, LOOK_S, Period
from pageferry.common.units import PAGE_SIZE

_MOST_ROUNDS: Final = 2000  # more than any strategy may order
_TICK_S: Final = 1e-6
_MOST_LOOKS: Final = 1000  # in a round: a slow link makes rounds of days


class Curve:
    """How much is stale a time after all was sent, through measured points.

    points: (seconds, amount), in any order. A point below one that is earlier counts as high as
    that one: what is stale stays so. Beyond the last point the curve goes on as steeply as its
    second half is on average, at most to `most`.
    """

    def __init__(self, points: Iterable[tuple[float, float]], most: float) -> None:
        self._most = most
        self._x, self._y = [0.0], [0.0]
        for seconds, amount in sorted(_averaged(points)):
            if seconds > 0:
                self._x.append(seconds)
                self._y.append(min(max(amount, self._y[-1]), most))

    def __call__(self, seconds: float) -> float:
        """Not always a whole number; 0 where nothing has been measured."""
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
    """Points whose times differ by less than a tenth become one: rounds repeat themselves."""
    out: list[tuple[float, float]] = []
    group: list[tuple[float, float]] = []
    for point in sorted(points):
        if group and point[0] > 1.1 * group[0][0]:
            out.append(_mean(group))
            group = []
        group.append(point)
    return [*out, _mean(group)] if group else out


def _mean(points: list[tuple[float, float]]) -> tuple[float, float]:
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)


class Stale(NamedTuple):
    """Pages of which the destination has not the latest content, and what a round of them costs.

    Of both, memory_share is what a round without a drain sends, and cached_share what it leaves to
    the cache; some pages may be in either, so that the two add up to one or more. cached_lines:
    what a drain has to write back, where that is known.
    """

    pages: float
    bytes: float
    memory_share: float = 1.0
    cached_share: float = 0.0
    cached_lines: float = 0.0

    def split(self) -> tuple[Stale, Stale]:
        """What a round without a drain sends, and what it leaves."""
        there, here = self.memory_share, self.cached_share
        return (
            Stale(self.pages * there, self.bytes * there),
            Stale(self.pages * here, self.bytes * here, 0.0, 1.0, self.cached_lines),
        )

    def and_then(self, later: Stale, most: float) -> Stale:
        """With what became stale later, as if those were other pages; at most so many pages."""
        pages = self.pages + later.pages
        mine = self.pages / pages if pages else 0.0
        return Stale(
            min(pages, most),
            self.bytes + later.bytes,
            self.memory_share * mine + later.memory_share * (1 - mine),
            self.cached_share * mine + later.cached_share * (1 - mine),
            self.cached_lines + later.cached_lines,
        )


_NOTHING: Final = Stale(0, 0)


@dataclass(frozen=True, slots=True)
class Conditions:
    """Link and guest.

    pages_total: of the guest. full_bytes: what sending all of memory puts on the wire.
    missing_page_bytes: what a page costs that post-copy moves. bandwidth_Bps: of the link or its
    limit. round_s: what a round takes beyond its bytes; decide_s: how long the guest runs on from
    a round's end until the next one takes its pages, or stops it. switchover_s: what a stop costs
    beyond its last pages, of which one was measured: last_bytes in last_s. stale: what becomes
    stale while the guest runs for so many seconds. discard_page_s: what a page adds to a switch
    that the destination has an old copy of.
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

    # What follows may be told better by who knows the guest: the simulator overrides it.

    def runs(self, begun_s: float, seconds: float) -> float:
        """How far a guest comes in the time it has; what it does may slow it down."""
        del begun_s
        return seconds

    def stale_between(self, begun_s: float, ran_s: float) -> Stale:
        """What becomes stale in ran_s, from begun_s on; both of the guest's own time.

        begun_s counts from the migration's start. Here it makes no difference.
        """
        del begun_s
        return self.stale(ran_s)

    def left(self, kept: Stale, kept_since_s: float, begun_s: float, ran_s: float) -> Stale:
        """With what a round kept back, which has become stale since kept_since_s."""
        del kept_since_s
        return kept.and_then(self.stale_between(begun_s, ran_s), self.pages_total)

    def round_seconds(self, size: float, cached: Stale, sent: float) -> float:
        """Of a round of so many bytes.

        cached: what is drained first; sent: bytes that the connections have carried before.
        """
        del cached, sent
        return size / self.bandwidth_Bps + self.round_s

    def carrying(self) -> Carrying:
        """What a source knows of the link at the start; `run` tells it of each round."""
        return Fixed(self.bandwidth_Bps, 0.0)

    def begins_s(self, cached: Stale) -> float:
        """What a round takes before its first page, of which a source says nothing of the link."""
        del cached
        return 0.0

    def believed_s(self, left: Stale) -> float:
        """What the source takes the switch-over for when it decides."""
        del left
        return self.switchover_s

    def stop_seconds(self, left: Stale, sent: float) -> float:
        """The downtime of a stop in which this is left; sent: as in `round_seconds`."""
        del sent
        return self.last_pages_s(left.bytes) + self.switchover_s

    @property
    def answer_s(self) -> float:
        """From the resume after a stop until the source knows of it, and is no longer needed."""
        return 0.0

    def switch_seconds(self, missing_pages: float) -> float:
        """The downtime of a switch to post-copy."""
        del missing_pages
        return self.switchover_s

    def supply(
        self, missing_pages: float, size: float, sent: float, *, push: bool
    ) -> tuple[float, float]:
        """Seconds and bytes from a switch until the source knows that nothing is missing."""
        del missing_pages, sent, push
        return size / self.bandwidth_Bps, size

    def last_pages_s(self, size: float) -> float:
        """How long the guest stands still for the last pages.

        A rate limit lets the first bytes after a rest go at once, so that small stops take less
        than their share of the rate: up to the one that was measured, they take their share of it,
        but for what it took beyond its bytes.
        """
        if size < self.last_bytes:
            beyond_s = max(self.last_s - self.last_bytes / self.bandwidth_Bps, 0.0)
            return beyond_s + (self.last_s - beyond_s) * size / self.last_bytes
        return self.last_s + (size - self.last_bytes) / self.bandwidth_Bps


@dataclass(frozen=True, slots=True)
class Cost:
    """What a migration takes. rounds: the final one counted, where there is one.

    switched: whether the guest ran at the destination with pages missing.
    """

    downtime_s: float
    total_s: float
    bytes: int
    rounds: int
    path: int | None
    switched: bool = False


@dataclass(frozen=True, slots=True)
class Played:
    """A round that was played, for who wants to tell of it.

    start_s: of the migration's time; sent: what it sent; what it left is in its statistics.
    """

    order: NextRound
    start_s: float
    sent: Stale
    drained_lines: float
    stats: RoundStats


@dataclass(frozen=True, slots=True)
class Ended:
    """How it ended. At end_s of the migration's time the guest, which ran for ran_s, was paused.

    sent: bytes, until then.
    """

    decision: Decision
    end_s: float
    ran_s: float
    left: Stale
    sent: int


class AsTaken(Strategy):
    """Decisions that were made, once more, whatever comes of them this time.

    A strategy that is asked again may decide otherwise where two figures are about equal; that
    would be another way, and not the one that was taken.
    """

    name: ClassVar[str] = "as-taken"

    def __init__(
        self, config: StrategyConfig, decisions: Sequence[Decision], path: int | None
    ) -> None:
        super().__init__(config)
        self._converge = None  # how the guest was throttled is in the decisions
        self._decisions = deque(decisions)
        self._path = path

    @property
    def path(self) -> int | None:
        """As it was."""
        return self._path

    def first_decision(self) -> Decision:
        """Implement `Strategy.first_decision`."""
        return self._decisions.popleft()

    def next_decision(self, stats: RoundStats) -> Decision:  # noqa: ARG002 - it has been decided
        """Implement `Strategy.next_decision`."""
        return self._decisions.popleft()


def run(
    strategy: Strategy, under: Conditions, tell: Callable[[Played | Ended], None] | None = None
) -> Cost:
    """Play a fresh strategy to its end. tell: is told of each round, and of the end."""
    elapsed, sent, rounds = 0.0, 0, 0
    begun = kept_since = clock = 0.0  # of the guest's own time
    carrying = under.carrying()
    everything = Stale(under.pages_total, under.full_bytes)
    left = everything
    decision = strategy.begin()
    while isinstance(decision, NextRound) and rounds < _MOST_ROUNDS:
        rounds += 1
        going, kept = (
            (everything, _NOTHING) if decision.kind is RoundKind.FULL else (left, _NOTHING)
        )
        if not decision.drain:
            going, kept = going.split()
        kept_since, begun = begun, clock
        drained = left if decision.drain else _NOTHING
        seconds = under.round_seconds(going.bytes, drained, sent)
        carrying.told(going.bytes, seconds - under.begins_s(drained))
        ran, throttle = _running(strategy, under, begun, decision.throttle, going.bytes, seconds)
        ran = under.runs(begun, ran)
        left = under.left(kept, kept_since, begun, ran)
        start, elapsed, sent = elapsed, elapsed + seconds, sent + round(going.bytes)
        stats = _stats(under, rounds, decision, going, (seconds, ran), left, elapsed, carrying)
        if tell is not None:
            tell(Played(decision, start, going, drained.cached_lines, stats))
        decision = strategy.decide(stats)
        elapsed += under.decide_s
        ran += under.decide_s * (1 - throttle)
        left = under.left(kept, kept_since, begun, ran)
        clock = begun + ran
    if tell is not None:
        tell(Ended(decision, elapsed, clock, left, sent))
    if isinstance(decision, StopAndCopy):
        downtime = under.stop_seconds(left, sent)
        total, sent = elapsed + downtime + under.answer_s, sent + round(left.bytes)
        return Cost(downtime, total, sent, rounds + 1, strategy.path)
    fresh = left is everything  # nothing was sent before the switch
    size = left.bytes if fresh else left.pages * under.missing_page_bytes
    downtime = under.switch_seconds(left.pages)
    downtime += 0.0 if fresh else left.pages * under.discard_page_s
    push = not isinstance(decision, SwitchToPostCopy) or decision.push
    seconds, size = under.supply(left.pages, size, sent, push=push)
    total, sent = elapsed + downtime + seconds, sent + round(size)
    return Cost(downtime, total, sent, rounds, strategy.path, switched=True)


def _running(
    strategy: Strategy,
    under: Conditions,
    begun: float,
    throttle: float,
    size: float,
    seconds: float,
) -> tuple[float, float]:
    """How long the guest runs in a round of so many bytes, and how it is throttled at its end."""
    if not strategy.wants_dirty_samples:
        return seconds * (1 - throttle), throttle
    look_s = max(LOOK_S, seconds / _MOST_LOOKS)
    ran, left = 0.0, seconds
    while left > look_s:
        runs = look_s * (1 - throttle)
        dirtied = under.stale_between(begun + ran, runs)
        before = under.stale_between(begun, ran).pages
        fresh = under.stale_between(begun, ran + runs).pages - before
        early = under.stale_between(begun + ran, EARLY_S * (1 - throttle))
        pages = (round(dirtied.pages) * PAGE_SIZE, round(fresh) * PAGE_SIZE)
        sent = round(size * look_s / seconds)
        raised = strategy.on_dirty_sample(
            Period(*pages, sent, round(early.pages) * PAGE_SIZE, EARLY_S / look_s)
        )
        throttle = throttle if raised is None else raised.share
        ran, left = ran + runs, left - look_s
    return ran + left * (1 - throttle), throttle


def _stats(
    under: Conditions,
    index: int,
    order: NextRound,
    sent: Stale,
    times: tuple[float, float],
    left: Stale,
    elapsed: float,
    carrying: Carrying,
) -> RoundStats:
    seconds, ran = times
    return RoundStats(
        index=index,
        kind=order.kind,
        pages_total=under.pages_total,
        pages_sent=math.ceil(sent.pages),
        bytes_sent=round(sent.bytes),
        duration_s=seconds,
        dirty_pages_after=round(left.pages),
        remaining_bytes=round(left.bytes),
        dirty_rate_Bps=left.pages * PAGE_SIZE / max(seconds, _TICK_S),
        bandwidth_Bps=carrying.rate_Bps,
        sending_s=carrying.seconds(left.bytes),
        switchover_s=under.believed_s(left),
        elapsed_s=elapsed,
        throttle=1 - ran / seconds if seconds > 0 else 0.0,
        decide_s=under.decide_s,
    )
