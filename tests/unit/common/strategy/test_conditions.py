"""What is stale some time after everything was sent, and what the last pages take."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.strategy.conditions import Conditions, Stale, StaleCurve

CONDITIONS = Conditions(
    pages_total=1000,
    full_bytes=4_104_000,
    missing_page_bytes=4104,
    bandwidth_Bps=4_104_000.0,
    round_s=0.0,
    decide_s=0.0,
    switchover_s=0.25,
    last_bytes=0,
    last_s=0.0,
    stale=lambda _seconds: Stale(0, 0),
)


def test_a_small_stop_takes_its_share_of_the_measured_one() -> None:
    conditions = dataclasses.replace(CONDITIONS, bandwidth_Bps=100.0, last_bytes=1000, last_s=2.0)
    assert conditions.last_pages_s(0) == 0
    assert conditions.last_pages_s(500) == pytest.approx(1.0)
    assert conditions.last_pages_s(1000) == pytest.approx(2.0)
    assert conditions.last_pages_s(1200) == pytest.approx(4.0)


def test_what_a_stop_takes_beyond_its_bytes_does_not_shrink() -> None:
    conditions = dataclasses.replace(CONDITIONS, bandwidth_Bps=1000.0, last_bytes=1000, last_s=3.0)
    assert conditions.last_pages_s(0) == pytest.approx(2.0)
    assert conditions.last_pages_s(500) == pytest.approx(2.5)


class TestCurve:
    def test_through_its_points_and_straight_between(self) -> None:
        curve = StaleCurve([(2.0, 20), (1.0, 10), (4.0, 30)], 1000)
        assert [curve(x) for x in (0, 0.5, 1, 1.5, 3)] == pytest.approx([0, 5, 10, 15, 25])

    def test_goes_on_as_its_second_half(self) -> None:
        curve = StaleCurve([(1.0, 50), (2.0, 60), (4.0, 80)], 1000)
        assert curve(6) == pytest.approx(100)
        assert curve(10_000) == 1000

    def test_repeated_rounds_are_one_point(self) -> None:
        curve = StaleCurve([(1.0, 10), (1.05, 30)], 1000)
        assert curve(1.025) == pytest.approx(20)

    def test_without_measured_points_nothing_is_stale(self) -> None:
        assert StaleCurve([], 1000)(5.0) == 0

    @given(
        st.lists(st.tuples(st.floats(0.001, 100), st.floats(0, 2000)), max_size=12),
        st.lists(st.floats(0, 1000), min_size=2, max_size=10),
    )
    def test_never_falls_and_never_exceeds(
        self, points: list[tuple[float, float]], at: list[float]
    ) -> None:
        curve = StaleCurve(points, 1000)
        values = [curve(x) for x in sorted(at)]
        assert all(a <= b + 1e-6 for a, b in pairwise(values))
        assert all(0 <= value <= 1000 + 1e-6 for value in values)
