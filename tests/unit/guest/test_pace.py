"""The schedule is a pure function of time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.guest.pace import FLAT_OUT, Pace, due_at, even, steps_due

PACES = st.builds(
    lambda period, steps, share: Pace(period, int(steps * share), steps),
    st.integers(1_000, 10**10),
    st.integers(1, 10**8),
    st.floats(0, 1),
)


def due(pace: Pace, elapsed_ns: int) -> int:
    return steps_due(elapsed_ns, pace.period_ns, pace.burst, pace.steps)


@given(PACES, st.integers(0, 10**12))
def test_a_step_is_due_when_due_at_says(pace: Pace, step: int) -> None:
    step %= 50 * pace.steps
    at = due_at(step, pace.period_ns, pace.burst, pace.steps)
    assert due(pace, at) > step
    if at > 0:
        assert due(pace, at - 1) <= step


@given(PACES, st.integers(0, 1000))
def test_every_period_has_its_steps(pace: Pace, periods: int) -> None:
    assert due(pace, periods * pace.period_ns) == periods * pace.steps + pace.burst


@pytest.mark.parametrize("rate", [0.25, 1.0, 999.9, 9765.625, 1e6, 1e9])
@pytest.mark.parametrize("unit", [1, 64])
def test_a_rate_is_kept(rate: float, unit: int) -> None:
    pace = even(rate, unit)
    assert pace.burst == 0
    assert pace.steps % unit == 0
    seconds = 1000
    expected = rate * seconds
    assert abs(due(pace, seconds * 10**9) - expected) <= max(unit, expected * 1e-6)


def test_no_limit_is_flat_out() -> None:
    assert even(math.inf) == FLAT_OUT
    assert even(1e13) == FLAT_OUT


def test_a_burst_is_due_at_once() -> None:
    pace = Pace(period_ns=1_000_000, burst=10, steps=14)
    assert [due(pace, t) for t in (0, 249_999, 250_000, 999_999, 1_000_000)] == [10, 10, 11, 13, 24]
