"""cache-aware: the paper's idea made to hold. Each round, and the stop, is chosen by expected cost.

    full round, drained ─> after each round:
        a stop fits the target, or the limit where nothing is gained any more ──> stop
        the paper's own rule would stop here, and that fits the limit ──────────> stop
        rounds are used up ──> stop, or post-copy where `path3` allows it
        holding is expected to cost clearly less ──> round of what is in memory, write-backs held
        else ──> drain, and a round of all that is stale

The paper holds write-backs whenever 10 to 50 % of memory has changed, and stops at less than 10 %,
whatever that takes. Here the share decides nothing by itself. What is kept of the paper's rule is
that a stop need not wait for pre-copy's safety margin: where it would stop, and a stop is expected
to keep the limit, that is soon enough.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Final

from pageferry.common.config.strategy import StrategyConfig
from pageferry.common.strategy.base import (
    Decision,
    NextRound,
    RoundKind,
    RoundStats,
    Strategy,
    describe_change,
    register,
)
from pageferry.common.strategy.orders import hand_over, measuring_round
from pageferry.common.strategy.outlook import Outlook
from pageferry.common.strategy.target import TARGET_SHARE, Target, Verdict

# A stop that is expected to be no less than this part of the present one after a further round:
# nothing is gained by it.
_REST: Final = 0.98
_SAFE: Final = 0.97  # of the limit: an estimate that is nearer is as likely wrong as right
# Two more rounds of a stop's length, as shares of the time so far: what ending sooner may add to
# the share of its speed that the guest loses.
_SHARE_LOST: Final = 0.01
# Two stops that differ by less are the same.
_SAME: Final = 0.02


@dataclass(slots=True)
class _PaperStop:
    """Where the paper's rule would stop, once: after a path's rounds, as far as they are alike.

    Path 1 stops after its one round, path 3 after the full one. Path 2 first sends what is in
    memory, and stops at the first drain that leaves less than `low`: that is the second round where
    memory had next to nothing to send, else the third.

    Attributes:
        config: The thresholds.
        first: The round from which on it may stop; 0: none has been measured yet.
        path2: Whether less than `low` has to be left.
        over: Whether it has stopped, or would have.
    """

    config: StrategyConfig
    first: int = 0
    path2: bool = False
    over: bool = False

    def is_due(self, stats: RoundStats) -> bool:
        """Tell whether it stops after this round; each round once."""
        if not self.first:
            self._begin(stats)
        due = stats.index >= self.first and not self.over
        if due and self.path2:
            due = stats.is_below(self.config.low)
        self.over = self.over or due
        return due

    def _begin(self, stats: RoundStats) -> None:
        if not stats.is_below(self.config.high):
            self.first = stats.index
        elif stats.is_below(self.config.low):
            self.first = stats.index + 1
        else:
            most = 2 * stats.in_memory.bytes > stats.remaining_bytes
            self.first, self.path2 = stats.index + (2 if most else 1), True


@register
class CacheAware(Strategy):
    """Rounds by expected cost; post-copy only where `path3` allows it and rounds are used up.

    Args:
        config: The downtime limit, the most rounds, and the paper's thresholds.
    """

    name: ClassVar[str] = "cache-aware"
    seeks_limit: ClassVar[bool] = True

    def __init__(self, config: StrategyConfig) -> None:
        super().__init__(config)
        self._target = Target(config.downtime_limit)
        self._paper = _PaperStop(config)
        self._outlook = Outlook()
        self._drained = True  # whether the round under way began with a drain
        self._drains = 0
        self._holds = 0
        self._least_s = math.inf  # of the stops that were expected so far
        self._recent = (math.inf, math.inf)  # the two before, the last one first

    def first_decision(self) -> Decision:
        """Flush the cache and send all of memory.

        Returns:
            A full round.
        """
        return measuring_round()

    def next_decision(self, stats: RoundStats) -> Decision:
        """Stop where that is cheapest, else order the round that is.

        Args:
            stats: The round as it was measured.

        Returns:
            A round, or the end.
        """
        self._outlook.record(stats, drained=self._drained)
        stats = self._as_it_grows(stats)
        verdict = self._target.judge(stats)
        said = f"{describe_change(stats)}: {verdict.reason}"
        paper = self._paper.is_due(stats)
        if verdict.fits:
            return self._converge_now(said)
        if verdict.fits_limit and paper:
            return self._converge_now(f"{said}; the paper's rule stops here, and it fits the limit")
        if verdict.fits_limit and self._is_at_rest(stats):
            return self._converge_now(f"{said}; a further round is expected to leave as much")
        return self._go_on(stats, verdict, said)

    def _as_it_grows(self, stats: RoundStats) -> RoundStats:
        """Count what becomes stale until a stop takes hold by how growth was seen to slow down."""
        if not self._drained or stats.sending_s is None:
            return stats
        grown = self._outlook.grows_in(stats.decide_s)
        sending_s = stats.sending_s + self._outlook.seconds(grown)
        return replace(stats, sending_s=sending_s, decide_s=0.0)

    def _is_at_rest(self, stats: RoundStats) -> bool:
        """Tell whether a further round gains nothing, and ending now costs the guest no share."""
        expected_s, outlook = stats.expected_downtime_s, self._outlook
        if not self._drained or stats.index == 1:  # one point says nothing of how growth slows
            return False
        next_s = outlook.stop_s(outlook.after(outlook.now, drain=True))
        share = expected_s / (stats.elapsed_s + expected_s)
        return (
            next_s > _REST * expected_s
            and expected_s < _SAFE * self.config.downtime_limit
            and 2 * share * share < _SHARE_LOST
        )

    def _go_on(self, stats: RoundStats, verdict: Verdict, said: str) -> Decision:
        """Order another round, or end where they are used up."""
        left = self.config.max_rounds + 1 - self._drains
        if left < 1 or (left == 1 and not self._last_round_helps(stats, verdict)):
            return self._give_up(verdict, said)
        expected_s = stats.expected_downtime_s
        self._least_s = min(self._least_s, expected_s)
        self._recent = expected_s, self._recent[0]
        target_s = TARGET_SHARE * self.config.downtime_limit
        may_hold = self.config.hold_write_backs and self._holds < self.config.max_rounds
        if may_hold and self._outlook.holding_pays(target_s, left):
            self._holds += 1
            self._drained = False
            return NextRound(
                RoundKind.DIRTY,
                drain=False,
                hold=True,
                reason=f"{said}; to hold what the cache has is expected to cost less",
            )
        self._drains += 1
        self._drained = True
        whole_pages = self._outlook.pages_pay(stats.dirty_pages_after)
        also = "; whole pages are expected to take less than lines" if whole_pages else ""
        return NextRound(
            RoundKind.DRAIN,
            drain=True,
            hold=self._holds > 0,
            reason=f"{said}{also}",
            whole_pages=whole_pages,
        )

    def _last_round_helps(self, stats: RoundStats, verdict: Verdict) -> bool:
        """Tell whether to use the last round: it is one more than pre-copy has, as path 2 has it.

        It helps where a stop does not fit the limit, and stops have grown shorter for two rounds,
        or the last round was worse than others, or there has been none but the full one.
        """
        if verdict.fits_limit:
            return False
        if stats.index == 1:
            return True
        expected_s, (before_s, first_s) = stats.expected_downtime_s, self._recent
        shrinks = expected_s < before_s < first_s and expected_s < (1 - _SAME) * self._least_s
        return shrinks or expected_s > (1 + _SAME) * self._least_s

    def _give_up(self, verdict: Verdict, said: str) -> Decision:
        """End with rounds used up."""
        most = f"{said}, but {self._drains} drain round(s) are used up"
        if verdict.fits_limit:
            return self._converge_now(most)
        self._converged = False
        return hand_over(self.config, most)
