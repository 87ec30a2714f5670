"""Stop-and-copy: pause, copy everything once, resume.

The paper's non-live migration: the highest downtime, and each page is sent exactly once.
"""

from __future__ import annotations

from typing import ClassVar

from pageferry.common.errors import LocalProtocolError
from pageferry.common.strategy.base import Decision, RoundStats, StopAndCopy, Strategy, register


@register
class StopAndCopyStrategy(Strategy):
    """Stops at once; there is never a round to decide about."""

    name: ClassVar[str] = "stop-and-copy"

    def first_decision(self) -> Decision:
        """Stop at once.

        Returns:
            The stop.
        """
        return StopAndCopy("stop-and-copy pauses the guest at once and sends every page once")

    def next_decision(self, stats: RoundStats) -> Decision:
        """Refuse: no round was ordered.

        Args:
            stats: Of a round that should not have been.

        Returns:
            Never.

        Raises:
            LocalProtocolError: Always.
        """
        raise LocalProtocolError(f"{self.name} ordered no round {stats.index}")
