"""Pages that are missing: each is pulled, pushed or still missing, and waiting slows the guest."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.sim.postcopy import FAULT_S, SimulatedSupply
from pageferry.sim.working_set import PAGE_BYTES

PAGE_S = PAGE_BYTES / 1e8


def supply(missing: float = 10_000, working: float = 4000, **values: object) -> SimulatedSupply:
    """A guest that visits 5,000 random pages of its working set a second."""

    def touched(ran: float) -> float:
        return working * -math.expm1(-ran * 5000 / working)

    known: dict[str, object] = {
        "missing": missing,
        "working": working,
        "touched": touched,
        "vcpus": 1,
        "busy": 0.1,
        "rate_Bps": 1e8,
        "link_Bps": math.inf,
        "rtt_s": 0.0,
        "queue_s": 0.0,
        "window": 0,
    }
    return SimulatedSupply(**(known | values))  # type: ignore[arg-type]


@given(
    st.floats(1, 1e9),
    st.floats(0, 1),
    st.floats(1e6, 1e11),
    st.floats(0, 0.2),
    st.integers(1, 16),
    st.floats(0, 1),
    st.booleans(),
    st.integers(0, 256),
)
def test_no_page_is_lost(
    missing: float,
    share: float,
    rate: float,
    rtt: float,
    vcpus: int,
    busy: float,
    push: bool,
    window: int,
) -> None:
    out = supply(
        missing,
        missing * share,
        rate_Bps=rate,
        link_Bps=rate,
        rtt_s=rtt,
        vcpus=vcpus,
        busy=busy,
        window=window,
        touched=lambda ran: missing * share * min(ran / 10, 1.0),
    ).play(push=push, until_s=2.0)
    left = out.samples[-1].missing
    assert out.pulled + out.pushed + left == pytest.approx(missing, rel=1e-6)
    if push:
        assert left <= missing * 0.01 + 1
    else:
        assert out.pushed == 0
    assert out.faults <= out.pulled * (1 + 1e-9)
    assert out.ran_s <= out.seconds * (1 + 1e-9)
    assert (out.pulled + out.pushed) * PAGE_BYTES <= rate * out.seconds * (1 + 1e-6)


def test_without_a_push_the_guest_fetches_what_it_touches() -> None:
    out = supply().play(push=False, until_s=2.0)
    assert out.faults == out.pulled == pytest.approx(4000 * -math.expm1(-2.5), rel=1e-3)
    assert out.degraded_s == 0  # it has time to wait: a fault takes 40 us, 5,000 a second are rare


def test_a_guest_that_runs_flat_out_waits() -> None:
    """Half of its time at first: a touch each 200 us, and as long for a fault."""
    out = supply(busy=1.0, rtt_s=200e-6 - FAULT_S).play(push=False, until_s=0.05)
    assert out.samples[0].speed == pytest.approx(0.5, abs=0.01)
    assert out.degraded_s == pytest.approx(0.05)


def test_a_round_trip_counts_in_full() -> None:
    fast, slow = supply(busy=1.0), supply(busy=1.0, rtt_s=0.01)
    assert slow.latency_s(push=False) - fast.latency_s(push=False) == pytest.approx(0.01)
    until = 1.0
    assert slow.play(push=False, until_s=until).faults == pytest.approx(until / 0.01, rel=0.05)


def test_a_demanded_page_waits_behind_pushed_ones() -> None:
    known = supply(busy=1.0, rtt_s=0.01, queue_s=0.04)
    assert known.latency_s(push=True) - known.latency_s(push=False) == pytest.approx(0.04)
    assert known.play(push=True, until_s=0).latency_s == known.latency_s(push=True)
    short = dataclasses.replace(known, queue_s=0.0)
    assert known.play(push=True, until_s=0).faults < short.play(push=True, until_s=0).faults


def test_a_push_goes_where_the_faults_are() -> None:
    """With the same load, pages outside the working set hardly delay it."""
    few, many = supply(missing=4000), supply(missing=400_000)
    assert many.play(push=True, until_s=0).faults < 2 * few.play(push=True, until_s=0).faults


def test_neighbours_save_faults_as_long_as_there_is_room_for_them() -> None:
    one = supply(touched=lambda ran: min(5000 * ran, 4000.0))
    several = dataclasses.replace(one, window=9)
    assert several.play(push=False, until_s=1).faults == pytest.approx(400)
    assert one.play(push=False, until_s=1).faults == pytest.approx(4000)
    hurried = dataclasses.replace(several, touched=lambda ran: min(5e6 * ran, 4000.0))
    assert hurried.play(push=False, until_s=1).faults == pytest.approx(4000, rel=0.05)
