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
        """Implement `Strategy.first_decision`."""
        return StopAndCopy("stop-and-copy pauses the guest at once and sends every page once")

    def next_decision(self, stats: RoundStats) -> Decision:
        """Implement `Strategy.next_decision`."""
        raise LocalProtocolError(f"{self.name} ordered no round {stats.index}")
