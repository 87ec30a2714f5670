"""What becomes stale over time, from what a run measured and what its guest counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.config.model import MigrationConfig
from pageferry.common.guest.progress import Progress
from pageferry.common.strategy.conditions import StaleCurve
from pageferry.common.timeline import Timeline
from pageferry.source_agent.measurements import Measurements
from pageferry.source_agent.report.estimates import _counted, between

POINTS = st.lists(st.tuples(st.floats(0.01, 100), st.floats(0, 1e6)), max_size=8)


def test_between_nothing_there_is_nothing() -> None:
    assert between([], [(1.0, 10)]) == []


def test_what_was_counted_is_bent_through_what_was_measured() -> None:
    # Three quarters of the pages that are stale after 4 s are so after 1 s.
    out = between([(4.0, 80)], [(1.0, 300), (2.0, 340), (4.0, 400)])
    assert sorted(out) == [(1.0, pytest.approx(60)), (2.0, pytest.approx(68)), (4.0, 80)]


def test_counting_more_than_a_later_round_left_does_not_lift_that_round() -> None:
    out = between([(0.5, 10), (4.0, 80)], [(0.1, 9000), (0.2, 9500), (1.0, 10_000), (4.0, 10_001)])
    assert StaleCurve(out, 1000)(0.5) == pytest.approx(10)
    assert StaleCurve(out, 1000)(4.0) == pytest.approx(80)


@given(POINTS, POINTS)
def test_between_two_measurements_it_stays_between_them(
    measured: list[tuple[float, float]], counted: list[tuple[float, float]]
) -> None:
    known = sorted([(0.0, 0.0), *measured])
    for x, y in between(measured, counted):
        below = max(amount for seconds, amount in known if seconds <= x)
        above = [amount for seconds, amount in known if seconds >= x]
        assert above
        assert y <= max(below, *above) + 1e-6


def test_the_warm_up_counts_until_something_else_empties_the_log() -> None:
    """A prediction's looks make pages count again that were counted before."""
    samples = [Progress(second * 10**9, 0, 100 * second) for second in range(1, 5)]
    record = Measurements(MigrationConfig(), "s", Timeline("source"))
    record.guest.boot_progress, record.guest.source_samples = samples[0], samples
    record.times.start_ns = 4 * 10**9
    assert list(_counted(record)) == [(1.0, 100), (2.0, 200), (3.0, 300)]
    record.predicted.predicting_ns = 3 * 10**9
    assert list(_counted(record)) == [(1.0, 100), (2.0, 200)]
