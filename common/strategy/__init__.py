"""Strategies: pure decisions about rounds, one file each. Importing this registers them all."""

from pageferry.common.strategy.base import (
    REGISTRY,
    CacheStats,
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
from pageferry.common.strategy.cache_aware import CacheAware
from pageferry.common.strategy.converge import Period
from pageferry.common.strategy.hybrid import Hybrid
from pageferry.common.strategy.post_copy import LazyCopy, PostCopy
from pageferry.common.strategy.pre_copy import PreCopy
from pageferry.common.strategy.stop_and_copy import StopAndCopyStrategy
from pageferry.common.strategy.three_path import ThreePath

__all__ = [
    "REGISTRY",
    "CacheAware",
    "CacheStats",
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
