from __future__ import annotations

import dataclasses
import math

import pytest

from pageferry.common.config.strategy import StrategyConfig
from pageferry.common.errors import UsageError
from pageferry.common.strategy import REGISTRY, NextRound, RoundKind, make_strategy
from tests.support.strategy_contract import stats


def test_an_unknown_name_lists_the_names() -> None:
    config = StrategyConfig.model_construct(strategy="teleport")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"'teleport'.*pre-copy, stop-and-copy, three-path"):
        make_strategy(config)


def test_the_configuration_knows_every_strategy() -> None:
    for name in REGISTRY:
        assert StrategyConfig.model_validate({"strategy": name}).strategy == name


def test_round_kinds_are_the_reports() -> None:
    assert set(RoundKind) == {"full", "dirty", "drain", "final"}


@pytest.mark.parametrize(
    ("remaining", "bandwidth", "expected"),
    [(10**8, 1e8, 1.5), (0, 1e8, 0.5), (0, 0.0, 0.5), (1, 0.0, math.inf), (9**9, math.inf, 0.5)],
)
def test_the_expected_downtime_is_the_remainder_and_the_switchover(
    remaining: int, bandwidth: float, expected: float
) -> None:
    seen = stats(remaining_bytes=remaining, bandwidth_Bps=bandwidth, switchover_s=0.5)
    assert seen.expected_downtime_s == expected


def test_the_dirty_ratio_is_the_share_of_all_pages() -> None:
    assert stats(dirty=65_536).dirty_ratio_after == 0.5


def test_thresholds_take_whole_numbers_too() -> None:
    assert stats(dirty=131_071).is_below(1)
    assert not stats(dirty=0).is_below(0)


def test_values_are_frozen() -> None:
    order = NextRound(RoundKind.FULL, drain=True, hold=False, reason="because")
    with pytest.raises(dataclasses.FrozenInstanceError):
        order.hold = True  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats().index = 2  # type: ignore[misc]
