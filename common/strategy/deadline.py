"""`--timeout`: another strategy, until its time is over."""

from __future__ import annotations

from typing import Literal

from pageferry.common.strategy.base import (
    Decision,
    RoundStats,
    StopAndCopy,
    Strategy,
    SwitchToPostCopy,
)
from pageferry.common.units import figures, format_time


class Deadline(Strategy):
    """A strategy that decides as another one does until a timeout, and then hands over.

    The round that is under way when the time is over is cut short by whoever carries it out.

    Args:
        inner: A fresh strategy, which decides after rounds that end before the timeout. Its own
            throttling is turned off.
        timeout_s: Seconds from the migration's start.
        action: How to hand over.
    """

    def __init__(
        self, inner: Strategy, timeout_s: float, action: Literal["stop-and-copy", "post-copy"]
    ) -> None:
        super().__init__(inner.config)
        inner._converge = None  # how much the guest is throttled is decided once, here
        self._inner = inner
        self._timeout_s = timeout_s
        self._action = action
        self._late = False

    @property
    def path(self) -> int | None:
        """The path of the strategy within."""
        return self._inner.path

    @property
    def converged(self) -> bool | None:
        """Whether the strategy within converged; False where its time was over before it did."""
        if self._late and self._inner.looks_at_limit(self.config.model_dump()):
            return False
        return self._inner.converged

    def first_decision(self) -> Decision:
        """Decide as the strategy within.

        Returns:
            Its decision.
        """
        return self._inner.begin()

    def next_decision(self, stats: RoundStats) -> Decision:
        """Decide as the strategy within, or hand over where the time is over.

        Args:
            stats: The round; `elapsed_s` decides.

        Returns:
            Its decision, or the hand-over.
        """
        if stats.elapsed_s < self._timeout_s:
            return self._inner.decide(stats)
        self._late = True
        reason = (
            f"--timeout: {format_time(self._timeout_s)} are over after"
            f" {figures(stats.elapsed_s, 3)} s, and --timeout-action is {self._action}"
        )
        if self._action == "post-copy":
            return SwitchToPostCopy(reason)
        return StopAndCopy(reason)
