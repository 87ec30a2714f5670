"""Thinning keeps every extreme; units are those that a span is read in."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.html.series import Point, TimeAxis, finite, thin_points


def test_few_points_are_all_kept() -> None:
    points: list[Point] = [(float(i), float(-i)) for i in range(40)]
    kept = thin_points(points, columns=10)
    assert kept.points == points
    assert kept.note == ""


def test_one_spike_among_a_million_survives() -> None:
    points = [(float(i), 1.0) for i in range(1_000_000)]
    points[700_001] = (700_001.0, 5000.0)
    points[123_456] = (123_456.0, -3.0)
    kept = thin_points(points)
    assert len(kept.points) <= 4 * 1500
    assert (700_001.0, 5000.0) in kept.points
    assert (123_456.0, -3.0) in kept.points
    assert kept.points[0] == points[0]
    assert kept.points[-1] == points[-1]
    assert "of 1,000,000 points are drawn" in kept.note


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=41, max_size=300))
def test_each_column_keeps_its_ends_and_extremes(points: list[Point]) -> None:
    kept = thin_points(points, columns=10).points
    assert kept == sorted(kept, key=lambda point: point[0])
    assert set(kept) <= set(points)
    for extreme in (min, max):
        for place in (0, 1):
            assert extreme(p[place] for p in kept) == extreme(p[place] for p in points)


def test_what_is_no_number_is_left_out() -> None:
    assert thin_points([(0.0, math.nan), (1.0, 2.0), (math.inf, 3.0)]).points == [(1.0, 2.0)]


@pytest.mark.parametrize(
    ("span_ms", "unit", "one"), [(900, "ms", 1), (90_000, "s", 1e-3), (3_600_000, "min", 1 / 6e4)]
)
def test_the_axis_has_the_unit_in_which_the_span_reads_well(
    span_ms: float, unit: str, one: float
) -> None:
    axis = TimeAxis.of(span_ms)
    assert (axis.unit, axis(1.0)) == (unit, one)


def test_json_has_no_infinity() -> None:
    assert finite({"a": [math.inf, 1.0, (math.nan,)], "b": "x"}) == {
        "a": [None, 1.0, [None]],
        "b": "x",
    }
