"""The schedule is a pure function of time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.guest.pace import FLAT_OUT, Pace, due_at, even, steps_due
from pageferry.common.guest.workloads.making import make_workload
from pageferry.common.units import parse_size
from pageferry.common.workload.region import Region
from pageferry.common.workload.registry import parse_workload

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


LONG = st.builds(
    lambda period, steps, burst: Pace(period, burst % (steps + 1), steps),
    st.integers(1, 86_400 * 10**9),
    st.integers(1, 2**40),
    st.integers(0, 2**40) | st.just(0),
)


@given(LONG, st.integers(0, 2**50), st.integers(0, 20 * 2**40))
def test_long_periods_of_many_steps_are_exact(pace: Pace, elapsed: int, step: int) -> None:
    """As in integers without bounds: a guest whose schedule overflows stops for ever."""
    period, burst, steps = pace.period_ns, pace.burst, pace.steps
    cycles, into = divmod(elapsed, period)
    if cycles * steps < 2**62:
        expected = cycles * steps + burst + into * (steps - burst) // period
        assert due(pace, elapsed) == expected
    cycles, into = divmod(step % (20 * steps), steps)
    at = due_at(cycles * steps + into, period, burst, steps)
    wait = 0 if into < burst else -(-(into - burst + 1) * period // (steps - burst))
    assert at == cycles * period + wait


@pytest.mark.parametrize("memory", ["64MiB", "16TiB"])
@pytest.mark.parametrize(
    "text",
    [
        "web-browsing:working-set=100%,animation=100%,think=1h",
        "web-browsing:working-set=100%,animation=100%,think=1ms",
        "game-server:working-set=100%,lines=64,ticks=1",
        "uniform:rate=1B/s,lines=64",
        "io-intensive:rate=1B/s",
        "io-intensive:rate=16GB/s",
    ],
)
def test_no_workload_overflows(text: str, memory: str) -> None:
    workload = make_workload(parse_workload(text))
    n_pages = parse_size(memory) // 4096
    pace = workload.plan(Region(vcpu=0, vcpus=1, first_page=0, pages=n_pages, seed=1, cache=0)).pace
    last = -1
    for share in range(201):  # of two periods
        elapsed = pace.period_ns * share // 100
        now = due(pace, elapsed)
        assert now >= last
        last = now
        at = due_at(now, pace.period_ns, pace.burst, pace.steps)
        assert elapsed < at
        assert due(pace, at) > now
