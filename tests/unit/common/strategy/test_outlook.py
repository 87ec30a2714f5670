"""What further rounds are expected to cost, against sums done by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pageferry.common.strategy.base import StalePart
from pageferry.common.strategy.outlook import Amounts, Outlook
from tests.support.strategy_contract import stats

RATE = 1e8


def seen(*rounds: tuple[float, float, float, float], drained: bool = True) -> Outlook:
    """An outlook after rounds: seconds, and what they left in all, in memory, in the cache."""
    outlook = Outlook()
    for index, (seconds, union, memory, cached) in enumerate(rounds, 1):
        parts: dict[str, Any] = {
            "duration_s": seconds,
            "elapsed_s": sum(each[0] for each in rounds[:index]),
            "bytes_sent": round(seconds * RATE),
            "remaining_bytes": round(union),
            "in_memory": StalePart(0, round(memory)),
            "in_cache": StalePart(0, round(cached)),
            "switchover_s": 0.002,
        }
        outlook.record(stats(index, 1000, **parts), drained=drained or index == 1)
    return outlook


def test_a_drain_leaves_what_became_stale_while_it_was_sent() -> None:
    outlook = seen((5.0, 2e8, 1.5e8, 0.5e8))
    # 2 s of 100 MB/s: two fifths of what 5 s left
    left = outlook.after(outlook.now, drain=True)
    assert left == pytest.approx(Amounts(0.8e8, 0.6e8, 0.2e8))
    assert outlook.stop_s(left) == pytest.approx(0.802)


def test_a_hold_leaves_what_the_cache_had_beside() -> None:
    outlook = seen((5.0, 2e8, 1.5e8, 0.5e8))
    left = outlook.after(outlook.now, drain=False)
    assert left == pytest.approx(Amounts(0.5e8 + 0.6e8, 0.6e8, 0.5e8))


def test_it_goes_through_all_points_and_on_as_steeply() -> None:
    outlook = seen((4.0, 2e8, 2e8, 0), (1.0, 1e8, 1e8, 0))
    for seconds, expected in [(0.5, 0.5e8), (1.0, 1e8), (2.5, 1.5e8), (4.0, 2e8), (7.0, 3e8)]:
        left = outlook.after(Amounts(seconds * RATE, 0, 0), drain=True)
        assert left.union == pytest.approx(expected)


def test_what_is_dirty_as_a_whole_grows_no_more() -> None:
    assert seen((5.0, 1e8, 1e8, 0)).grows_in(0.5) == pytest.approx(1e7)
    assert seen((5.0, 1e8, 1e8, 0), (1.0, 1e8, 1e8, 0)).grows_in(0.5) == pytest.approx(5e7)
    settled = seen((5.0, 1e8, 1e8, 0), (1.0, 1e8, 1e8, 0), (1.0, 1e8, 1e8, 0))
    assert settled.grows_in(0.5) == pytest.approx(5e7)  # only the origin is before them
    assert seen((1.0, 1e8, 1e8, 0), (5.0, 1e8, 1e8, 0)).grows_in(0.5) == 0


def test_holding_pays_where_the_cache_keeps_what_is_written_again_and_again() -> None:
    # 20 MB/s are written back; the cache holds 60 MB that are dirty again at once.
    hot = seen((5.0, 1.6e8, 1e8, 0.6e8), (1.6, 0.92e8, 0.32e8, 0.6e8))
    hot.evicted_Bps = 20e6
    assert hot.holding_pays(target_s=0.84, most=9)
    assert not hot.holding_pays(target_s=0.001, most=9)  # nothing fits: drains come nearer
    assert not hot.holding_pays(target_s=0.84, most=0)
    hot.evicted_Bps = math.inf
    assert not hot.holding_pays(target_s=0.84, most=9)  # all that grows may be what it evicts
    once = seen((5.0, 1.6e8, 1e8, 0.6e8))
    once.evicted_Bps = 20e6
    assert not once.holding_pays(target_s=0.84, most=9)  # nobody knows yet how growth slows down


def test_holding_does_not_pay_where_the_cache_holds_little() -> None:
    cold = seen((5.0, 1.6e8, 1.55e8, 0.05e8), (1.6, 0.6e8, 0.55e8, 0.05e8))
    assert not cold.holding_pays(target_s=0.3, most=9)


def test_whole_pages_pay_where_lines_take_longer_than_their_bytes() -> None:
    outlook = seen((5.0, 1e6, 1e6, 0))
    full = stats(1, 1000, remaining_bytes=100_000, bytes_sent=500_000_000, transfer_s=5.04)
    outlook.record(full, drained=True)  # 40 ms there and back
    assert not outlook.pages_pay(1000)  # no round has gone by line yet
    lines = {"pages_by_line": 1000, "pages_sent": 1000, "bytes_sent": 100_000}
    for transfer_s, pays in [(0.041, False), (0.051, False), (0.141, True)]:
        outlook.record(
            stats(2, 1000, remaining_bytes=100_000, transfer_s=transfer_s, **lines), drained=True
        )
        assert outlook.pages_pay(1000) == pays  # as pages they take 41 ms


def test_few_pages_by_line_tell_nothing() -> None:
    outlook = seen((5.0, 1e6, 1e6, 0))
    few = {"pages_by_line": 100, "pages_sent": 100, "bytes_sent": 10_000, "transfer_s": 0.5}
    outlook.record(stats(2, 1000, remaining_bytes=100_000, **few), drained=True)
    assert not outlook.pages_pay(1000)
