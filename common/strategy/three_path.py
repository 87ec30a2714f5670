"""The three paths: a write-back cache takes part in the migration.

    flush the cache, send all of memory, then look at r, the share of memory that has changed:

    r < low          path 1   drain, send the changed pages; stop and copy the rest
    low <= r < high  path 2   hold write-backs, send the changed memory pages without a drain;
                              ┌─> max_rounds drains done? ── yes ──> hand over as path3 says
                              │        │ no
                              │     drain, still holding, and send what came out
                              └── no ── r < low? ── yes ──> stop and copy the rest
    r >= high        path 3   hand over at once as path3 says

A share that equals a threshold belongs to the higher path, so "small enough" is strictly below.
That rule of path 2 knows no downtime: a tenth of memory may be far more than the limit allows. With
`path2_stop="limit"` it asks instead whether a stop fits the limit, as pre-copy does (`Target`).
"""

from __future__ import annotations

from collections.abc import Mapping
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
from pageferry.common.strategy.orders import hand_over, measuring_round
from pageferry.common.strategy.target import Target, Verdict
from pageferry.common.units import format_share


@register
class ThreePath(Strategy):
    """The first round measures, its result picks the path, and the path is never left.

    Args:
        config: The thresholds, and how path 3 hands over.
        forced: The path that is taken whatever the first round says, for estimates of what it would
            have cost; None: none is forced.
    """

    name: ClassVar[str] = "three-path"

    def __init__(self, config: StrategyConfig, *, forced: int | None = None) -> None:
        super().__init__(config)
        self._forced = forced
        self._path: int | None = None
        self._drains = 0
        self._target = Target(config.downtime_limit) if config.path2_stop == "limit" else None

    @classmethod
    def looks_at_limit(cls, options: Mapping[str, object]) -> bool:
        """Tell whether path 2 stops by the downtime limit.

        Args:
            options: Of a migration; `path2_stop` is looked at.

        Returns:
            Whether it does.
        """
        return options.get("path2_stop") == "limit"

    @property
    def path(self) -> int | None:
        """The path: 1, 2 or 3; None until the first round has been measured."""
        return self._path

    def first_decision(self) -> Decision:
        """Flush the cache and send all of memory.

        Returns:
            A full round.
        """
        return measuring_round()

    def next_decision(self, stats: RoundStats) -> Decision:
        """Pick the path after the first round, and follow it afterwards.

        Args:
            stats: The round as it was measured.

        Returns:
            A round of the path, or its end.
        """
        if self._path is None:
            return self._pick(stats)
        if self._path == 1:
            return StopAndCopy(f"path 1 stops for the rest: {describe_change(stats)}")
        return self._go_round(stats)

    def _pick(self, stats: RoundStats) -> Decision:
        """Pick the path, and take its first step."""
        seen = describe_change(stats)
        low, high = format_share(self.config.low), format_share(self.config.high)
        self._path = self._forced or self._path_of(stats)
        if self._path == 3:
            return hand_over(self.config, f"path 3: {seen}, {high} or more")
        if self._path == 2:
            return NextRound(
                RoundKind.DIRTY,
                drain=False,
                hold=True,
                reason=f"path 2 holds write-backs: {seen}, at least {low} and below {high}",
            )
        return NextRound(
            RoundKind.DIRTY,
            drain=True,
            hold=False,
            reason=f"path 1 sends the changed pages: {seen}, below {low}",
        )

    def _path_of(self, stats: RoundStats) -> int:
        """Return the path that a round's change calls for."""
        if not stats.is_below(self.config.high):
            return 3
        return 1 if stats.is_below(self.config.low) else 2

    def _go_round(self, stats: RoundStats) -> Decision:
        """Go on with path 2 after its held round, and after each drain round."""
        seen, most = describe_change(stats), self.config.max_rounds
        # Each round is judged, as the target looks at how they shrink.
        verdict = None if self._target is None else self._target.judge(stats)
        stop = self._small_enough(stats, verdict, seen)
        if stop is not None:
            return stop
        if self._drains >= most:
            used_up = f"path 2 has used up its {most} drain round(s): {seen}"
            if verdict is not None and verdict.fits_limit:
                return self._converge_now(f"{used_up}, {verdict.reason}")
            return hand_over(self.config, used_up)
        self._drains += 1
        return NextRound(
            RoundKind.DRAIN,
            drain=True,
            hold=True,
            reason=f"path 2, drain round {self._drains} of at most {most}: {seen}",
        )

    def _small_enough(
        self, stats: RoundStats, verdict: Verdict | None, seen: str
    ) -> StopAndCopy | None:
        """Stop where path 2 has become small enough, by the rule that was asked for."""
        said = f"path 2 has become small enough after {self._drains} drain round(s): {seen}"
        if verdict is not None:
            self._converged = bool(self._drains) and verdict.fits
            return StopAndCopy(f"{said}, {verdict.reason}") if self._converged else None
        if self._drains and stats.is_below(self.config.low):
            return StopAndCopy(f"{said}, below {format_share(self.config.low)}")
        return None
