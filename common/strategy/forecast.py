"""What a strategy would cost, in virtual time: the same objects that decide about real rounds.

`conditions.Conditions` says what link and guest are like, `play_strategy` plays a strategy against
them. A throttled guest runs for a part of the time only.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from pageferry.common.config.strategy import StrategyConfig
from pageferry.common.strategy.base import (
    Decision,
    NextRound,
    RoundKind,
    RoundStats,
    StalePart,
    StopAndCopy,
    Strategy,
    SwitchToPostCopy,
)
from pageferry.common.strategy.carrying import Carrying
from pageferry.common.strategy.conditions import Conditions, Stale
from pageferry.common.strategy.converge import EARLY_S, LOOK_S, Period
from pageferry.common.units import PAGE_SIZE

_MOST_ROUNDS: Final = 2100  # more than any strategy may order: 1000 drains, and as many holds
_TICK_S: Final = 1e-6
_MOST_LOOKS: Final = 1000  # in a round: over a slow link rounds take days
_NOTHING: Final = Stale(0, 0)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a migration takes.

    Attributes:
        downtime_s: The downtime.
        total_s: The total time.
        bytes: On the wire.
        rounds: How many, the final one counted, where there is one.
        path: Of `three-path`; None: another strategy, or none was taken.
        switched: Whether the guest ran at the destination with pages missing.
    """

    downtime_s: float
    total_s: float
    bytes: int
    rounds: int
    path: int | None
    switched: bool = False


@dataclass(frozen=True, slots=True)
class Played:
    """A round that was played.

    Attributes:
        order: What was ordered.
        start_s: When it began, of the migration's time.
        sent: What it sent.
        drained_lines: Lines that were drained before.
        stats: Its statistics, with what it left.
    """

    order: NextRound
    start_s: float
    sent: Stale
    drained_lines: float
    stats: RoundStats


@dataclass(frozen=True, slots=True)
class Ended:
    """How a strategy's rounds ended.

    Attributes:
        decision: The last decision.
        end_s: When the guest was paused, of the migration's time.
        ran_s: How long it had run, its own time.
        left: What was stale then.
        sent: Bytes until then.
    """

    decision: Decision
    end_s: float
    ran_s: float
    left: Stale
    sent: int


class AsTaken(Strategy):
    """Decisions that were made before, replayed whatever comes of them this time.

    A strategy that is asked again may decide otherwise where two figures are about equal; that
    would be another way, and not the one that was taken.

    Args:
        config: Of the run; its throttling is in the decisions.
        decisions: As they were made, in order.
        path: As it was taken.
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
        """The path that was taken."""
        return self._path

    def first_decision(self) -> Decision:
        """Return the first decision that was made.

        Returns:
            The decision.
        """
        return self._decisions.popleft()

    def next_decision(self, stats: RoundStats) -> Decision:  # noqa: ARG002 - it has been decided
        """Return the next decision that was made.

        Args:
            stats: Ignored.

        Returns:
            The decision.
        """
        return self._decisions.popleft()


def play_strategy(
    strategy: Strategy, under: Conditions, tell: Callable[[Played | Ended], None] | None = None
) -> Cost:
    """Play a fresh strategy to its end.

    Args:
        strategy: Has not been asked yet.
        under: What the link carries, and what becomes stale when.
        tell: Called with each round, and with the end; None: nobody is told.

    Returns:
        What the migration takes, from its start until the source is no longer needed.
    """
    elapsed, sent, rounds = 0.0, 0, 0
    begun = clock = 0.0  # the guest's own time
    carrying = under.carrying()
    everything = Stale(under.pages_total, under.full_bytes)
    left = everything
    decision = strategy.begin()
    while isinstance(decision, NextRound) and rounds < _MOST_ROUNDS:
        rounds += 1
        going, kept = everything if decision.kind is RoundKind.FULL else left, _NOTHING
        if not decision.drain:
            going, kept = going.split()
        if decision.whole_pages and decision.kind is not RoundKind.FULL:
            going = going._replace(bytes=going.pages * under.missing_page_bytes)
        begun = clock
        drained = left if decision.drain else _NOTHING
        seconds = under.round_seconds(going.bytes, drained, sent)
        carrying.record(going.bytes, seconds - under.begins_s(drained))
        ran, throttle = _running(strategy, under, begun, decision.throttle, going.bytes, seconds)
        ran = under.runs(begun, ran)
        left = under.left(kept, begun, ran, held=decision.hold)
        start, elapsed, sent = elapsed, elapsed + seconds, sent + round(going.bytes)
        stats = _stats(
            under, rounds, decision, going, (seconds, begun, ran), left, elapsed, carrying, drained
        )
        if tell is not None:
            tell(Played(decision, start, going, drained.cached_lines, stats))
        held, decision = decision.hold, strategy.decide(stats)
        elapsed += under.decide_s
        ran += under.decide_s * (1 - throttle)
        left = under.left(kept, begun, ran, held=held)
        clock = begun + ran
    end = Ended(decision, elapsed, clock, left, sent)
    if tell is not None:
        tell(end)
    return _cost(strategy, under, end, rounds, fresh=left is everything)


def _cost(strategy: Strategy, under: Conditions, end: Ended, rounds: int, *, fresh: bool) -> Cost:
    """Return what a migration takes with its stop or switch; fresh: nothing was sent before it."""
    left, sent = end.left, end.sent
    if isinstance(end.decision, StopAndCopy):
        downtime = under.stop_seconds(left, sent)
        total, sent = end.end_s + downtime + under.answer_s, sent + round(left.bytes)
        return Cost(downtime, total, sent, rounds + 1, strategy.path)
    size = left.bytes if fresh else left.pages * under.missing_page_bytes
    downtime = under.switch_seconds(left.pages)
    downtime += 0.0 if fresh else left.pages * under.discard_page_s
    push = not isinstance(end.decision, SwitchToPostCopy) or end.decision.push
    seconds, size = under.supply(left.pages, size, sent, push=push)
    total, sent = end.end_s + downtime + seconds, sent + round(size)
    return Cost(downtime, total, sent, rounds, strategy.path, switched=True)


def _running(
    strategy: Strategy,
    under: Conditions,
    begun: float,
    throttle: float,
    size: float,
    seconds: float,
) -> tuple[float, float]:
    """Return how long the guest runs in a round of so many bytes, and its throttle at the end."""
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
    times: tuple[float, float, float],
    left: Stale,
    elapsed: float,
    carrying: Carrying,
    drained: Stale,
) -> RoundStats:
    """Make a round's statistics; times: of the round, when the guest began it, and how far it came.

    drained: what was stale when it began, if it drained.
    """
    seconds, begun, ran = times
    in_memory, in_cache = left.split()
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
        in_memory=StalePart(round(in_memory.pages), round(in_memory.bytes)),
        in_cache=StalePart(round(in_cache.pages), round(in_cache.bytes)),
        transfer_s=seconds - under.begins_s(drained),
        cache=under.cache_stats(begun, ran, left),
        throttle=1 - ran / seconds if seconds > 0 else 0.0,
        decide_s=under.decide_s,
    )
