"""Growth that is continued, against sets of pages whose growth is known."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.strategy.growth import Growth, visits_of

TIMES = [1.19 ** (k - 30) for k in range(31)]  # 5 ms to a second
MOST = 1e6


def visited(pages: float, rate: float, seconds: float) -> float:
    """Distinct pages of a set that is visited at random."""
    return -pages * math.expm1(-rate * seconds)


def growth_of(curve: list[float], most: float = MOST) -> Growth:
    return Growth(zip(TIMES, curve, strict=True), most)


@pytest.mark.parametrize("rate", [0.3, 1.2, 4.0, 15.0])
@pytest.mark.parametrize("later", [2.7, 10.7])
def test_a_working_set_saturates(rate: float, later: float) -> None:
    growth = growth_of([visited(4096, rate, seconds) for seconds in TIMES])
    assert growth(later) == pytest.approx(visited(4096, rate, later), rel=0.04)
    assert growth.rate == pytest.approx(rate, rel=0.05)
    assert growth.limit == pytest.approx(4096, rel=0.05)


def test_a_straight_line_through_two_points_would_be_far_off() -> None:
    """What this file is for: 2.7 s of a guest that dirties 70 % of its working set in one."""
    growth = growth_of([visited(4096, 1.2, seconds) for seconds in TIMES])
    end = TIMES[-1]
    assert growth(end) / end * 2.7 > 1.8 * visited(4096, 1.2, 2.7)
    assert growth(2.7) < 4096


def test_a_sequential_writer_goes_on_straight() -> None:
    growth = growth_of([5000 * seconds for seconds in TIMES])
    assert growth(10.0) == pytest.approx(50_000, rel=1e-6)
    assert growth.rate == 0
    assert growth.limit == MOST


def test_what_is_dirty_at_once_says_nothing_of_the_rest() -> None:
    growth = growth_of([3000 * (seconds > 0) + 5000 * seconds for seconds in TIMES])
    assert growth(10.0) == pytest.approx(53_000, rel=1e-6)


def test_what_has_ended_is_not_continued() -> None:
    growth = growth_of([min(32768, 600_000 * seconds) for seconds in TIMES])
    assert growth(60.0) == growth(TIMES[-1]) == growth.limit == 32768


def test_never_more_than_there_is() -> None:
    growth = growth_of([5000 * seconds for seconds in TIMES], most=6000)
    assert growth(100.0) == 6000


def test_nothing_measured_is_nothing() -> None:
    assert Growth([], MOST)(1.0) == 0
    assert Growth([(0.0, 0.0)], MOST)(1.0) == 0


def test_one_look_goes_on_straight() -> None:
    assert Growth([(1.0, 100.0)], MOST)(3.0) == pytest.approx(300)


@given(st.floats(0.01, 300))
def test_visits_are_found_again_from_their_mean(visits: float) -> None:
    mean = 1 / visits - 1 / math.expm1(visits)
    assert visits_of(mean) == pytest.approx(visits, rel=1e-3)


@given(st.lists(st.floats(0, 1e5), min_size=len(TIMES), max_size=len(TIMES)), st.floats(1, 1e6))
def test_whatever_was_measured_it_never_falls_and_has_a_limit(
    rises: list[float], most: float
) -> None:
    total, curve = 0.0, []
    for rise in rises:
        total += rise
        curve.append(total)
    growth = growth_of(curve, most)
    seen = [growth(seconds) for seconds in [*TIMES, 1.1, 2.0, 5.0, 50.0, 1e4]]
    assert all(a <= b * (1 + 1e-9) + 1e-9 for a, b in pairwise(seen))
    assert max(seen) <= min(most, growth.limit * (1 + 1e-9) + 1e-9)
    assert seen[len(TIMES) - 1] == pytest.approx(min(total, most), rel=1e-9)
