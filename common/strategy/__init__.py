"""Strategies: pure decisions about rounds, one file each. Importing this registers them all."""

from common.strategy.base import (
    REGISTRY,
    Decision,
    NextRound,
    RoundKind,
    RoundStats,
    StopAndCopy,
    Strategy,
    SwitchToPostCopy,
    Throttled,
    make_strategy,
)
from common.strategy.converge import Period
from common.strategy.hybrid import Hybrid
from common.strategy.post_copy import LazyCopy, PostCopy
from common.strategy.pre_copy import PreCopy
from common.strategy.stop_and_copy import StopAndCopyStrategy
from common.strategy.three_path import ThreePath

__all__ = [
    "REGISTRY",
    "Decision",
    "Hybrid",
    "LazyCopy",
    "NextRound",
    "Period",
    "PostCopy",
    "PreCopy",
    "RoundKind",
    "RoundStats",
    "StopAndCopy",
    "StopAndCopyStrategy",
    "Strategy",
    "SwitchToPostCopy",
    "ThreePath",
    "Throttled",
    "make_strategy",
]
