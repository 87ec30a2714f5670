"""Pre-copy: everything, then what each round left dirty, until the rest fits the downtime."""

from __future__ import annotations

from typing import ClassVar

from pageferry.common.config.strategy import StrategyConfig
from pageferry.common.strategy.base import (
    Decision,
    NextRound,
    RoundKind,
    RoundStats,
    StopAndCopy,
    Strategy,
    describe_change,
    register,
)
from pageferry.common.strategy.orders import full_round
from pageferry.common.strategy.target import Target


@register
class PreCopy(Strategy):
    """Rounds until a stop is taken (`Target`), at most `max_rounds` of them after the full one.

    Args:
        config: The downtime limit, and how many rounds there may be.
    """

    name: ClassVar[str] = "pre-copy"
    seeks_limit: ClassVar[bool] = True

    def __init__(self, config: StrategyConfig) -> None:
        super().__init__(config)
        self._target = Target(config.downtime_limit)
        self._dirty_rounds = 0

    def first_decision(self) -> Decision:
        """Send all of memory.

        Returns:
            A full round.
        """
        return full_round("the first round sends all of memory")

    def next_decision(self, stats: RoundStats) -> Decision:
        """Stop where a stop fits or rounds are used up; send what is dirty otherwise.

        Args:
            stats: The round as it was measured.

        Returns:
            A dirty round, or a stop.
        """
        verdict = self._target.judge(stats)
        seen = describe_change(stats)
        said = f"{seen}: {verdict.reason}"
        if verdict.fits:
            return self._converge_now(said)
        most = self.config.max_rounds
        if self._dirty_rounds < most:
            self._dirty_rounds += 1
            return NextRound(RoundKind.DIRTY, drain=True, hold=False, reason=said)
        if verdict.fits_limit:
            return self._converge_now(f"{said}, but {most} round(s) were the most")
        self._converged = False
        return StopAndCopy(
            f"{seen}: pre-copy did not converge within {most} round(s), {verdict.reason}"
        )
