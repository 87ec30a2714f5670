"""What a strategy sees, what it may decide, and the registry of strategies.

A strategy is a pure object: no clock, no IO. The source agent feeds it measurements, the simulator
virtual time, tests feed it tables. It is asked once by `begin`, and then by `decide` after every
round that it ordered, until it answers with something else than `NextRound`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from typing import ClassVar, Final, NamedTuple, TypeVar, final

from pageferry.common.config.strategy import StrategyConfig
from pageferry.common.errors import LocalProtocolError, UsageError
from pageferry.common.strategy.converge import AutoConverge, Period
from pageferry.common.units import PAGE_SIZE


class RoundKind(StrEnum):
    """What a round sends: everything, what has changed, what the cache gave back, the last rest."""

    FULL = "full"
    DIRTY = "dirty"
    DRAIN = "drain"
    FINAL = "final"


class Part(NamedTuple):
    """Some of the stale pages, and what they would put on the wire."""

    pages: int
    bytes: int


NOTHING: Final = Part(0, 0)


@dataclass(frozen=True, slots=True)
class RoundStats:
    """One round as it was measured, and what a stop right after it would cost.

    index: the round just finished, counted from 1.
    kind: what it was ordered to send.
    pages_total: 4 KiB pages of the guest.
    pages_sent: pages that the round sent, zero pages counted.
    bytes_sent: what it put on the wire, headers counted.
    duration_s: from its order to the destination's word that it is complete.
    dirty_pages_after: pages of which the destination has not the latest content, in the dirty log
        or as dirty lines in the cache, each page once.
    remaining_bytes: what a stop now would put on the wire.
    dirty_rate_Bps: how fast pages became dirty during the round, as bytes of whole pages.
    bandwidth_Bps: what the link carries; infinite where it has neither been measured nor limited.
    switchover_s: the part of the downtime that does not depend on what is left: pause, drain,
        snapshot, their way to the destination, resume.
    elapsed_s: from the migration's start to the end of this round.
    in_memory, in_cache: what is stale in memory, which a round without a drain would send, and what
        the cache holds, which it would leave; a page may be in both.
    throttle: the share of the round in which the guest was kept from running.
    sending_s: what the link is expected to take for `remaining_bytes`; None: as `bandwidth_Bps`
        says.
    decide_s: how long the guest goes on until a stop takes hold of it. compression_ratio: what
    stale pages cost of their size because they travel compressed or as deltas, as
        measured; `remaining_bytes` and the parts are what is left.
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
    in_memory: Part = NOTHING
    in_cache: Part = NOTHING
    throttle: float = 0.0
    compression_ratio: float = 1.0
    decide_s: float = 0.0
    sending_s: float | None = None

    @property
    def dirty_ratio_after(self) -> float:
        """Share of the guest's pages that is dirty; for people. Compare with `is_below`."""
        return self.dirty_pages_after / self.pages_total

    @property
    def expected_downtime_s(self) -> float:
        """What a stop now would cost: what is left on its way, and the switch-over.

        Until it takes hold, the rest grows on as it has in the round.
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
        """Whether fewer pages than `share` of all are dirty: a share that is met is not below.

        Exact. 0.1 has no exact binary form; what the user wrote is its shortest decimal, so
        that is what the page count is compared with.
        """
        return self.dirty_pages_after < Fraction(repr(float(share))) * self.pages_total


@dataclass(frozen=True, slots=True)
class NextRound:
    """Send another round.

    kind: what to send: every page (full), or the pages that are stale (dirty, drain).
    drain: write the cache's dirty lines back to memory before the round collects its pages.
    hold: from the round's start on the cache keeps its write-backs to itself; false ends a hold.
    reason: one sentence with the figures that led here.
    throttle: share of its time in which the guest must not run, from the round's start on.
    """

    kind: RoundKind
    drain: bool
    hold: bool
    reason: str
    throttle: float = 0.0


@dataclass(frozen=True, slots=True)
class StopAndCopy:
    """Pause the guest, drain the cache, send what is left, and resume at the destination.

    reason: one sentence with the figures that led here.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class SwitchToPostCopy:
    """Pause the guest, drain the cache, resume at the destination at once; the rest follows.

    reason: one sentence with the figures that led here.
    push: whether pages are sent that nobody has asked for.
    """

    reason: str
    push: bool = True


class Throttled(NamedTuple):
    """From now on the guest must not run for this share of its time, and why."""

    share: float
    reason: str


Decision = NextRound | StopAndCopy | SwitchToPostCopy


class Strategy(ABC):
    """Decides about rounds. A subclass says what comes first and what comes next.

    The order of calls is kept here: `begin` once, `decide` after each ordered round with a rising
    index, `on_dirty_sample` any number of times during one, nothing after the end. Anything else
    raises `LocalProtocolError` and changes nothing. How much the guest is throttled is decided
    here, too, the same for every strategy that goes in rounds.
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

    @property
    def path(self) -> int | None:
        """Which of the three paths was taken: 1, 2 or 3; None until known, or without paths."""
        return None

    @property
    def converged(self) -> bool | None:
        """Whether it stopped because a stop fitted the limit; False where something else ended it.

        None until then, and where a strategy does not go on until it does.
        """
        return self._converged

    @final
    def begin(self) -> Decision:
        """The first decision, before anything has been measured."""
        if self._begun:
            raise LocalProtocolError(f"{self.name}: begin was called a second time")
        self._begun = True
        return self._note(self.first_decision())

    @final
    def decide(self, stats: RoundStats) -> Decision:
        """The decision after a round."""
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
        """Whether `on_dirty_sample` is to be told of the dirty log during a round."""
        return self._converge is not None

    @final
    def on_dirty_sample(self, period: Period) -> Throttled | None:
        """A look at the dirty log during a round; how much to throttle from now on, if more."""
        if not self._begun or self._ended:
            raise LocalProtocolError(f"{self.name}: on_dirty_sample was called outside a round")
        if self._converge is None:
            return None
        why = self._converge.within(period, first_pass=self._last_index == 0)
        return None if why is None else Throttled(self._converge.throttle, why)

    def _note(self, decision: Decision) -> Decision:
        self._ended = not isinstance(decision, NextRound)
        return decision

    def _converge_now(self, reason: str) -> StopAndCopy:
        self._converged = True
        return StopAndCopy(reason)

    @abstractmethod
    def first_decision(self) -> Decision:
        """Decide before anything has been measured; called once, by `begin`."""

    @abstractmethod
    def next_decision(self, stats: RoundStats) -> Decision:
        """Decide after a round that this strategy ordered; called by `decide`.

        Args:
            stats: The round as it was measured, and what a stop right after it would cost.

        Returns:
            The next round, or one of the two ends.
        """


def _throttled(order: NextRound, converge: AutoConverge, stats: RoundStats) -> NextRound:
    stale = stats.dirty_pages_after * PAGE_SIZE
    why = converge.at_end(Period(stale, stale, stats.bytes_sent).scaled(stats.compression_ratio))
    reason = order.reason if why is None else f"{order.reason}; {why}"
    return replace(order, reason=reason, throttle=converge.throttle)


def describe_change(stats: RoundStats) -> str:
    """The measured change for a reason: `12.5 % of memory is dirty (16,384 of 131,072 pages)`."""
    return (
        f"{100 * stats.dirty_ratio_after:.3g} % of memory is dirty"
        f" ({stats.dirty_pages_after:,} of {stats.pages_total:,} pages)"
    )


REGISTRY: Final[dict[str, type[Strategy]]] = {}

_S = TypeVar("_S", bound=type[Strategy])


def register(strategy: _S) -> _S:
    """Class decorator: the strategy can be asked for by its `name`."""
    REGISTRY[strategy.name] = strategy
    return strategy


def make_strategy(config: StrategyConfig) -> Strategy:
    """A fresh strategy as configured. Raises `UsageError` for a name that nobody registered."""
    if config.strategy not in REGISTRY:
        names = ", ".join(sorted(REGISTRY))
        raise UsageError(f"{config.strategy!r} is not a strategy: expected one of {names}")
    return REGISTRY[config.strategy](config)
