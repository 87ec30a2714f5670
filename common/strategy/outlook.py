"""What further rounds are expected to cost, from what a strategy has seen of its rounds; pure.

After each round three amounts are known: what is stale, what of it is in memory, and what the
cache holds. A round that drains sends all of it, takes that long, and leaves what becomes stale
meanwhile. A round that holds sends what is in memory and takes less, but leaves what the cache had
beside what has become stale meanwhile. `Outlook.holding_pays` tries short sequences of both.

How much becomes stale in a time is read off the rounds that began drained: in straight lines from
the origin through their points, and beyond the longest as steeply as up to it. For times much
shorter than the first round that is too little, until there has been a shorter one: then a drain
looks better than it is, and nothing is held that need not be.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple

from pageferry.common.strategy.base import RoundStats
from pageferry.common.units import LINE_SIZE, PAGE_SIZE

LONGEST: Final = 4  # rounds of a plan: later ones are guesses
# Of the whole time: a plan that holds has to be better by so much. What it saves is seldom more
# than what is wrong with an estimate.
HOLDING_GAIN: Final = 0.03
_POINTS: Final = 2  # rounds that drained: one says nothing of how growth slows down
_MEASURABLE_PAGES: Final = 1000  # of a round by line: fewer take as long as threads need to wake up
# A point at less than this part of the last round's time tells how fast its end grew.
_SHORTER: Final = 0.7


class Amounts(NamedTuple):
    """What is stale, as bytes on the wire.

    Attributes:
        union: All of it.
        memory: What a round that holds sends.
        cached: What that leaves; a page may be in both.
    """

    union: float
    memory: float
    cached: float


NOTHING: Final = Amounts(0.0, 0.0, 0.0)


class Plan(NamedTuple):
    """Rounds that end with a stop.

    Attributes:
        drains: Of each round, whether it drains.
        bytes: Of the rounds and of the stop.
        downtime_s: What the stop is expected to take.
    """

    drains: tuple[bool, ...]
    bytes: float
    downtime_s: float

    @property
    def holds(self) -> bool:
        """Whether one of its rounds holds."""
        return not all(self.drains)


@dataclass(slots=True)
class Outlook:
    """What is known of guest and link.

    Attributes:
        now: What is stale.
        rate_Bps: What the link carries.
        fixed_s: What a round takes beside its bytes.
        switchover_s: What a stop takes beside its bytes.
        elapsed_s: Since the migration's start.
        drained: Seconds and amounts of rounds that began with a drain.
        last_s: Of those, the last one's seconds.
        plain_s: What a round of whole pages took beyond its bytes, on the way there and back.
        line_page_s: What a page that goes by line took beyond that.
        by_line: Share of the pages of a round that went by line.
        evicted_Bps: What the cache gives back by itself in a second, as bytes on the wire.
    """

    now: Amounts = NOTHING
    rate_Bps: float = 0.0
    fixed_s: float = 0.0
    switchover_s: float = 0.0
    elapsed_s: float = 0.0
    drained: dict[float, Amounts] = field(default_factory=dict)
    last_s: float = 0.0
    plain_s: float = 0.0
    line_page_s: float = 0.0
    by_line: float = 0.0
    evicted_Bps: float = math.inf

    def record(self, stats: RoundStats, *, drained: bool) -> None:
        """Learn from a round.

        Args:
            stats: The round.
            drained: Whether it began with a drain.
        """
        self.now = Amounts(
            float(stats.remaining_bytes),
            float(stats.in_memory.bytes),
            float(stats.in_cache.bytes),
        )
        self.rate_Bps, self.elapsed_s = stats.bandwidth_Bps, stats.elapsed_s
        self.switchover_s = stats.switchover_s
        sent_s = self.seconds(stats.bytes_sent)
        self.fixed_s = max(stats.duration_s - sent_s, 0.0)
        if drained and stats.duration_s > 0:
            self.drained[stats.duration_s] = self.now
            self.last_s = stats.duration_s
        if stats.cache is not None and stats.cache.lines_per_page and self.evicted_Bps == math.inf:
            pages = stats.cache.write_back_Bps / LINE_SIZE / stats.cache.lines_per_page
            self.evicted_Bps = pages * stats.remaining_bytes / max(stats.dirty_pages_after, 1)
        if stats.transfer_s is not None:
            self._record_lines(stats, max(stats.transfer_s - sent_s, 0.0))

    def _record_lines(self, stats: RoundStats, beyond_s: float) -> None:
        """Learn what lines take beyond their bytes, and beyond what a round of pages takes, too."""
        if not stats.pages_by_line:
            self.plain_s = beyond_s
        elif stats.pages_by_line >= _MEASURABLE_PAGES:
            self.line_page_s = max(beyond_s - self.plain_s, 0.0) / stats.pages_by_line
            self.by_line = stats.pages_by_line / max(stats.pages_sent, 1)

    def seconds(self, size: float) -> float:
        """Return how long bytes take on the link; 0 where its rate is not known."""
        return size / self.rate_Bps if self.rate_Bps > 0 else 0.0

    def stop_s(self, left: Amounts) -> float:
        """Return what a stop takes.

        Args:
            left: What is stale then.

        Returns:
            Seconds.
        """
        return self.seconds(left.union) + self.switchover_s

    def grows_in(self, seconds: float) -> float:
        """Return how many bytes become stale after a round like the last one that drained.

        A working set that is dirty as a whole grows no more, however fast it is written.

        Args:
            seconds: A short time after its end.
        """
        if not self.last_s:
            return 0.0
        points = [(0.0, 0.0), *((s, each.union) for s, each in sorted(self.drained.items()))]
        before_s, size = [each for each in points if each[0] < _SHORTER * self.last_s][-1]
        fresh = self.drained[self.last_s].union - size
        return max(fresh / (self.last_s - before_s), 0.0) * seconds

    def after(self, left: Amounts, *, drain: bool) -> Amounts:
        """Return what is stale after another round.

        Args:
            left: What is stale before it.
            drain: Whether it drains.

        Returns:
            Where it holds, the cache is full: as much is evicted as was in the first round, and no
            more than becomes stale at all.
        """
        if drain:
            return self._grown(self.seconds(left.union) + self.fixed_s)
        seconds = self.seconds(left.memory) + self.fixed_s
        fresh = min(self._grown(seconds).union, self.evicted_Bps * seconds)
        return Amounts(left.cached + fresh, fresh, left.cached)

    def _grown(self, seconds: float) -> Amounts:
        """Return what becomes stale in so many seconds after a drain."""
        points = [(0.0, NOTHING), *sorted(self.drained.items())]
        for (x0, y0), (x1, y1) in pairwise(points):
            if seconds <= x1 or x1 == points[-1][0]:
                share = (seconds - x0) / (x1 - x0)
                return Amounts(
                    *(max(a + share * (b - a), 0.0) for a, b in zip(y0, y1, strict=True))
                )
        return NOTHING

    def plans(self, most: int) -> Iterator[Plan]:
        """Yield every plan of at most so many rounds, the shorter ones first.

        Args:
            most: Rounds of a plan.
        """
        todo: list[tuple[tuple[bool, ...], float, Amounts]] = [((), 0.0, self.now)]
        while todo:
            drains, size, left = todo.pop(0)
            yield Plan(drains, size + left.union, self.stop_s(left))
            if len(drains) == most:
                continue
            for drain in (True, False) if left.cached else (True,):
                sent = left.union if drain else left.memory
                todo.append(((*drains, drain), size + sent, self.after(left, drain=drain)))

    def holding_pays(self, target_s: float, most: int) -> bool:
        """Tell whether the next round should hold: the best plan begins so, and is much better.

        A plan's cost is its time and its downtime once more, since the guest stands still then.

        Args:
            target_s: What the stop may take.
            most: How many rounds are left.

        Returns:
            False where no plan without a hold reaches the target: a hold is not tried there.
        """
        fitting = [plan for plan in self.plans(min(most, LONGEST)) if plan.downtime_s <= target_s]
        draining = [self._cost_s(plan) for plan in fitting if not plan.holds]
        holding = [plan for plan in fitting if plan.holds]
        if not draining or not holding or len(self.drained) < _POINTS:
            return False
        best, least_s = min(holding, key=self._cost_s), min(draining)
        needed_s = HOLDING_GAIN * (self.elapsed_s + least_s)
        return not best.drains[0] and self._cost_s(best) < least_s - needed_s

    def _cost_s(self, plan: Plan) -> float:
        return self.seconds(plan.bytes) + len(plan.drains) * self.fixed_s + plan.downtime_s

    def pages_pay(self, pages: int) -> bool:
        """Tell whether stale pages are sooner over as whole pages than by line.

        Args:
            pages: How many are stale.

        Returns:
            False until a round by line has been measured: on a slow link it never is otherwise.
        """
        lined_s = self.seconds(self.now.union) + pages * self.by_line * self.line_page_s
        return self.by_line > 0 and self.seconds(pages * PAGE_SIZE) < lined_s
