"""Hybrid: pre-copy rounds first, then post-copy for what keeps changing."""

from __future__ import annotations

from typing import ClassVar

from pageferry.common.config.postcopy_trigger import Trigger
from pageferry.common.config.strategy import StrategyConfig
from pageferry.common.strategy.base import (
    Decision,
    NextRound,
    RoundKind,
    RoundStats,
    Strategy,
    SwitchToPostCopy,
    describe_change,
    register,
)
from pageferry.common.strategy.orders import full_round
from pageferry.common.strategy.target import STALL_SHARE, Target
from pageferry.common.units import figures


@register
class Hybrid(Strategy):
    """Pre-copy until `postcopy_after`, then the switch; where it converges before, a stop.

    Args:
        config: The thresholds, and when to switch.
    """

    name: ClassVar[str] = "hybrid"
    seeks_limit: ClassVar[bool] = True

    def __init__(self, config: StrategyConfig) -> None:
        super().__init__(config)
        self._target = Target(config.downtime_limit)
        self._trigger: Trigger = config.postcopy_after
        self._dirty_before: int | None = None

    def first_decision(self) -> Decision:
        """Send all of memory, unless no round was asked for.

        Returns:
            A full round, or the switch.
        """
        if self._trigger.kind == "rounds" and self._trigger.amount == 0:
            return SwitchToPostCopy("no round was asked for before the switch")
        return full_round("the first round sends all of memory")

    def next_decision(self, stats: RoundStats) -> Decision:
        """Stop where a stop fits, switch where that is due, and send what is dirty otherwise.

        Args:
            stats: The round as it was measured.

        Returns:
            A dirty round, a stop, or the switch.
        """
        verdict = self._target.judge(stats)
        seen = describe_change(stats)
        if verdict.fits:
            return self._converge_now(f"{seen}: {verdict.reason}")
        due = self._due(stats)
        self._dirty_before = stats.dirty_pages_after
        if due is not None:
            return SwitchToPostCopy(f"{seen}: {due}")
        return NextRound(
            RoundKind.DIRTY, drain=True, hold=False, reason=f"{seen}: {verdict.reason}"
        )

    def _due(self, stats: RoundStats) -> str | None:
        """Say why the switch is due now; None: it is not."""
        trigger = self._trigger
        if trigger.kind == "rounds" and stats.index >= trigger.amount:
            return f"{stats.index} round(s) were to come before the switch"
        if trigger.kind == "time" and stats.elapsed_s >= trigger.amount:
            passed = figures(stats.elapsed_s, 3)
            return f"{passed} s have passed, the switch was due after {trigger.spelled}"
        if stats.index > self.config.max_rounds:
            self._converged = False
            return f"{self.config.max_rounds} further round(s) were the most"
        before = self._dirty_before
        if (
            trigger.kind == "stall"
            and before is not None
            and stats.dirty_pages_after > STALL_SHARE * before
        ):
            return f"the rounds do not shrink any more ({before:,} pages before)"
        return None
