from __future__ import annotations

from typing import Literal

import pytest

from pageferry.common.config.strategy import StrategyConfig
from pageferry.common.strategy import make_strategy
from pageferry.common.strategy.base import NextRound, RoundStats, StopAndCopy, SwitchToPostCopy
from pageferry.common.strategy.deadline import Deadline
from tests.support.strategy_contract import stats as make_stats


def after(index: int, elapsed_s: float) -> RoundStats:
    return make_stats(index, 10_000, elapsed_s=elapsed_s)


@pytest.mark.parametrize("action", ["stop-and-copy", "post-copy"])
def test_the_inner_strategy_until_the_time_is_over(
    action: Literal["stop-and-copy", "post-copy"],
) -> None:
    config = StrategyConfig(strategy="pre-copy", downtime_limit=1e-6, max_rounds=100)
    strategy, inner = Deadline(make_strategy(config), 5.0, action), make_strategy(config)
    assert strategy.begin() == inner.begin()
    for index, elapsed_s in ((1, 1.0), (2, 4.999)):
        seen = after(index, elapsed_s)
        decision = strategy.decide(seen)
        assert isinstance(decision, NextRound)
        assert decision == inner.decide(seen)
    last = strategy.decide(after(3, 5.0))
    assert isinstance(last, StopAndCopy if action == "stop-and-copy" else SwitchToPostCopy)
    assert "--timeout: 5s are over" in last.reason


def test_it_ends_before_where_the_inner_one_does() -> None:
    strategy = Deadline(make_strategy(StrategyConfig(strategy="stop-and-copy")), 5.0, "post-copy")
    assert isinstance(strategy.begin(), StopAndCopy)
