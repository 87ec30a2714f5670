"""Decisions that several strategies take alike."""

from __future__ import annotations

from pageferry.common.config.strategy import StrategyConfig
from pageferry.common.strategy.base import (
    Decision,
    NextRound,
    RoundKind,
    StopAndCopy,
    SwitchToPostCopy,
)


def full_round(reason: str) -> NextRound:
    """Order the round that sends all of memory.

    Args:
        reason: Why, for logs and the report.

    Returns:
        It drains: a line that is written back before its page is sent need not be sent again.
    """
    return NextRound(RoundKind.FULL, drain=True, hold=False, reason=reason)


def measuring_round() -> NextRound:
    """Order a full round whose changes decide what comes next."""
    return full_round(
        "the first round flushes the cache, sends all of memory and sees what changes"
    )


def hand_over(config: StrategyConfig, why: str) -> Decision:
    """Hand over as path 3 is configured to.

    Args:
        config: Its `path3` is looked at.
        why: For logs and the report.

    Returns:
        Post-copy, or a stop.
    """
    if config.path3 == "post-copy":
        return SwitchToPostCopy(f"{why}; hands over by post-copy")
    return StopAndCopy(f"{why}; hands over by stop-and-copy")
