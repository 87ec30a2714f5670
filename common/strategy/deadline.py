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
    """Decides as `inner` does in rounds that end before `timeout_s`, and then hands over.

    The round that is under way when the time is over is cut short by whoever carries it out.
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
        """That of the strategy within."""
        return self._inner.path

    @property
    def converged(self) -> bool | None:
        """That of the strategy within; False where its time was over before it did."""
        return False if self._late and self._inner.seeks_limit else self._inner.converged

    def first_decision(self) -> Decision:
        """Implement `Strategy.first_decision`."""
        return self._inner.begin()

    def next_decision(self, stats: RoundStats) -> Decision:
        """Implement `Strategy.next_decision`."""
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
