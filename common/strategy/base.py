"""What a strategy sees, what it may decide, and the registry of strategies.

A strategy is a pure object: no clock, no IO. The source agent feeds it measurements, the simulator
virtual time, tests feed it tables. It is asked once by `begin`, and then by `decide` after every
round that it ordered, until it answers with something other than `NextRound`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from typing import ClassVar, Final, NamedTuple, TypeVar, final

from pageferry.common.config.strategy import StrategyConfig
from pageferry.common.errors import LocalProtocolError, UsageError
from pageferry.common.strategy.converge import AutoConverge, Period
from pageferry.common.units import PAGE_SIZE


class RoundKind(StrEnum):
    """What a round sends: everything, changed pages, what the cache gave back, the last pages."""

    FULL = "full"
    DIRTY = "dirty"
    DRAIN = "drain"
    FINAL = "final"


class StalePart(NamedTuple):
    """Some of the stale pages.

    Attributes:
        pages: How many there are.
        bytes: What they would put on the wire.
    """

    pages: int
    bytes: int


NOTHING: Final = StalePart(0, 0)


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What a write-back cache did in a round, and how it stands at the round's end.

    Attributes:
        dirty_hit_rate: Share of the guest's accesses that made no further line dirty, from 0 to 1:
            reads, and writes to lines that were dirty already.
        write_back_Bps: Lines that the cache gave back to memory by itself, bytes/s.
        dirty_lines: Lines that it holds dirty, of whatever length its lines have.
        lines_per_page: Mean number of lines that changed in a stale page; 64 where pages are
            tracked as a whole.
    """

    dirty_hit_rate: float
    write_back_Bps: float
    dirty_lines: int
    lines_per_page: float


@dataclass(frozen=True, slots=True)
class RoundStats:
    """One round as it was measured, and what a stop right after it would cost.

    Attributes:
        index: The round just finished, counted from 1.
        kind: What it was ordered to send.
        pages_total: 4 KiB pages of the guest.
        pages_sent: Pages that the round sent, zero pages counted.
        bytes_sent: What it put on the wire, headers counted.
        duration_s: From its order to the destination's word that it is complete.
        dirty_pages_after: Pages of which the destination does not have the latest content, in the
            dirty log or as dirty lines in the cache, each page once.
        remaining_bytes: What a stop now would put on the wire.
        dirty_rate_Bps: How fast pages became dirty during the round, as bytes of whole pages.
        bandwidth_Bps: What the link carries; infinite where it has neither been measured nor
            limited.
        switchover_s: The part of the downtime that does not depend on what is left: pause, drain,
            snapshot, their way to the destination, resume.
        elapsed_s: From the migration's start to the end of this round.
        in_memory: What is stale in memory: a round without a drain would send it.
        in_cache: What the cache holds dirty: a round without a drain would leave it. A page may be
            in both.
        throttle: The share of the round in which the guest was kept from running.
        compression_ratio: What stale pages cost as a share of their size because they travel
            compressed or as deltas, as measured; `remaining_bytes` and the parts are what is left
            of them.
        decide_s: How long the guest goes on until a stop takes hold of it.
        sending_s: What the link is expected to take for `remaining_bytes`; None: as `bandwidth_Bps`
            says.
        pages_by_line: Pages of `pages_sent` that travelled as their changed lines.
        transfer_s: What the round's bytes took, without its drain and the look for stale pages;
            None: as `duration_s`.
        cache: What the guest's cache did; None: it has none.
    """

    index: int
    kind: RoundKind
    pages_total: int
    pages_sent: int
    bytes_sent: int
    duration_s: float
    dirty_pages_after: int
    remaining_bytes: int
    dirty_rate_Bps: float
    bandwidth_Bps: float
    switchover_s: float
    elapsed_s: float
    in_memory: StalePart = NOTHING
    in_cache: StalePart = NOTHING
    throttle: float = 0.0
    compression_ratio: float = 1.0
    decide_s: float = 0.0
    sending_s: float | None = None
    pages_by_line: int = 0
    transfer_s: float | None = None
    cache: CacheStats | None = None

    @property
    def dirty_ratio_after(self) -> float:
        """Share of the guest's pages that is dirty; for people. Compare with `is_below`."""
        return self.dirty_pages_after / self.pages_total

    @property
    def expected_downtime_s(self) -> float:
        """What a stop now would cost: sending what is left, and the switch-over.

        Until the stop takes hold, what is left grows on as it has in the round.
        """
        if self.remaining_bytes == 0:
            return self.switchover_s
        sending_s = self.sending_s
        if sending_s is None:
            rate_Bps = self.bandwidth_Bps
            sending_s = self.remaining_bytes / rate_Bps if rate_Bps > 0 else math.inf
        grown = 1 + (self.decide_s / self.duration_s if self.duration_s > 0 else 0.0)
        return sending_s * grown + self.switchover_s

    def is_below(self, share: float) -> bool:
        """Tell whether fewer pages than a share of all are dirty; a share that is met is not below.

        The comparison is exact. 0.1 has no exact binary form; what the user wrote is its shortest
        decimal, so that is what the page count is compared with.

        Args:
            share: Of the guest's pages, from 0 to 1.

        Returns:
            Whether it is strictly below.
        """
        return self.dirty_pages_after < Fraction(repr(float(share))) * self.pages_total


@dataclass(frozen=True, slots=True)
class NextRound:
    """A decision: send another round.

    Attributes:
        kind: What to send: every page (full), or the pages that are stale (dirty, drain).
        drain: Write the cache's dirty lines back to memory before the round collects its pages.
        hold: From the round's start on the cache keeps its write-backs to itself; false ends a
            hold.
        reason: One sentence with the figures that led here.
        throttle: Share of its time in which the guest must not run, from the round's start on.
        whole_pages: Pages go whole, also where their changed lines are known and shorter.
    """

    kind: RoundKind
    drain: bool
    hold: bool
    reason: str
    throttle: float = 0.0
    whole_pages: bool = False


@dataclass(frozen=True, slots=True)
class StopAndCopy:
    """A decision: pause the guest, drain the cache, send what is left, resume at the destination.

    Attributes:
        reason: One sentence with the figures that led here.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class SwitchToPostCopy:
    """A decision: pause, resume at the destination at once; the rest follows.

    What the cache holds counts as missing; it is drained once the destination has answered the
    commit.

    Attributes:
        reason: One sentence with the figures that led here.
        push: Whether pages are sent that nobody has asked for.
    """

    reason: str
    push: bool = True


class Throttled(NamedTuple):
    """A decision within a round: throttle the guest from now on.

    Attributes:
        share: Of its time in which the guest must not run.
        reason: Why, with the figures.
    """

    share: float
    reason: str


Decision = NextRound | StopAndCopy | SwitchToPostCopy


class Strategy(ABC):
    """A strategy decides about rounds; a subclass says what comes first and what comes next.

    The order of calls is checked here: `begin` once, `decide` after each ordered round with a
    rising index, `on_dirty_sample` any number of times during one, nothing after the end. Anything
    else raises `LocalProtocolError` and changes nothing. How much the guest is throttled is decided
    here, too, the same for every strategy that sends rounds.

    Args:
        config: The thresholds.

    Attributes:
        name: By which it is registered.
        seeks_limit: Whether it stops when what is left fits the downtime limit.
        config: As given.
    """

    name: ClassVar[str]
    seeks_limit: ClassVar[bool] = False  # whether it stops when what is left fits the limit

    def __init__(self, config: StrategyConfig) -> None:
        self.config: Final = config
        self._converged: bool | None = None
        self._begun = False
        self._ended = False
        self._last_index = 0
        self._converge = AutoConverge(config) if config.auto_converge else None

    @classmethod
    def looks_at_limit(cls, options: Mapping[str, object]) -> bool:
        """Tell whether it stops by the downtime limit under given options.

        Args:
            options: Values by the names of `StrategyConfig`'s fields; those that are absent have
                their defaults.

        Returns:
            `seeks_limit`, where no option changes that.
        """
        del options
        return cls.seeks_limit

    @property
    def path(self) -> int | None:
        """Which of the three paths was taken: 1, 2 or 3; None until known, or without paths."""
        return None

    @property
    def converged(self) -> bool | None:
        """Whether it stopped because a stop fitted the limit; False where something else ended it.

        None until then, and for a strategy that does not go on until a stop fits.
        """
        return self._converged

    @final
    def begin(self) -> Decision:
        """Decide before anything has been measured.

        Returns:
            The first round, or one of the two ends.

        Raises:
            LocalProtocolError: It was called before.
        """
        if self._begun:
            raise LocalProtocolError(f"{self.name}: begin was called a second time")
        self._begun = True
        return self._note(self.first_decision())

    @final
    def decide(self, stats: RoundStats) -> Decision:
        """Decide after a round.

        Args:
            stats: The round as it was measured, with a higher index than the one before.

        Returns:
            The next round, or one of the two ends.

        Raises:
            LocalProtocolError: No round was ordered, or its index is not higher.
        """
        if not self._begun:
            raise LocalProtocolError(f"{self.name}: decide was called before begin")
        if self._ended:
            raise LocalProtocolError(f"{self.name}: decide was called after the last decision")
        if stats.index <= self._last_index:
            raise LocalProtocolError(
                f"{self.name}: round {stats.index} came after round {self._last_index}"
            )
        self._last_index = stats.index
        decision = self.next_decision(stats)
        if isinstance(decision, NextRound) and self._converge is not None:
            decision = _throttled(decision, self._converge, stats)
        return self._note(decision)

    @property
    def wants_dirty_samples(self) -> bool:
        """Whether `on_dirty_sample` is to be given the dirty log during a round."""
        return self._converge is not None

    @final
    def on_dirty_sample(self, period: Period) -> Throttled | None:
        """Take a look at the dirty log during a round.

        Args:
            period: What happened since the last look, or since the round's start.

        Returns:
            How much to throttle from now on; None: no more than before.

        Raises:
            LocalProtocolError: No round is under way.
        """
        if not self._begun or self._ended:
            raise LocalProtocolError(f"{self.name}: on_dirty_sample was called outside a round")
        if self._converge is None:
            return None
        why = self._converge.during_round(period, first_pass=self._last_index == 0)
        return None if why is None else Throttled(self._converge.throttle, why)

    def _note(self, decision: Decision) -> Decision:
        """Note whether this decision is the last one; hold nothing where that was ruled out."""
        self._ended = not isinstance(decision, NextRound)
        if isinstance(decision, NextRound) and decision.hold and not self.config.hold_write_backs:
            return replace(decision, hold=False)
        return decision

    def _converge_now(self, reason: str) -> StopAndCopy:
        """Stop because a stop fits the limit."""
        self._converged = True
        return StopAndCopy(reason)

    @abstractmethod
    def first_decision(self) -> Decision:
        """Decide before anything has been measured; called once, by `begin`.

        Returns:
            The first round, or one of the two ends.
        """

    @abstractmethod
    def next_decision(self, stats: RoundStats) -> Decision:
        """Decide after a round that this strategy ordered; called by `decide`.

        Args:
            stats: The round as it was measured, and what a stop right after it would cost.

        Returns:
            The next round, or one of the two ends.
        """


def _throttled(order: NextRound, converge: AutoConverge, stats: RoundStats) -> NextRound:
    """Order a round with the throttle that the round before it calls for."""
    stale = stats.dirty_pages_after * PAGE_SIZE
    why = converge.at_end(Period(stale, stale, stats.bytes_sent).scaled(stats.compression_ratio))
    reason = order.reason if why is None else f"{order.reason}; {why}"
    return replace(order, reason=reason, throttle=converge.throttle)


def describe_change(stats: RoundStats) -> str:
    """Write the measured change: `12.5 % of memory is dirty (16,384 of 131,072 pages)`.

    Args:
        stats: Of the round.

    Returns:
        A clause for a reason.
    """
    return (
        f"{100 * stats.dirty_ratio_after:.3g} % of memory is dirty"
        f" ({stats.dirty_pages_after:,} of {stats.pages_total:,} pages)"
    )


REGISTRY: Final[dict[str, type[Strategy]]] = {}

_S = TypeVar("_S", bound=type[Strategy])


def register(strategy: _S) -> _S:
    """Register a strategy under its `name`; a class decorator.

    Args:
        strategy: The class; an earlier one of the same name is replaced.

    Returns:
        The class itself.
    """
    REGISTRY[strategy.name] = strategy
    return strategy


def make_strategy(config: StrategyConfig) -> Strategy:
    """Make a fresh strategy as configured.

    Args:
        config: Names the strategy, and has its thresholds.

    Returns:
        A strategy that has not begun.

    Raises:
        UsageError: No strategy of that name is registered.
    """
    if config.strategy not in REGISTRY:
        names = ", ".join(sorted(REGISTRY))
        raise UsageError(f"{config.strategy!r} is not a strategy: expected one of {names}")
    return REGISTRY[config.strategy](config)
