from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.strategy.carrying import MEASURABLE_BYTES, ROUND_S, Carrying


def test_a_round_trip_is_no_part_of_the_rate() -> None:
    carrying = Carrying(1e8, 0.04)
    carrying.record(5e7, 1.0 + 0.04 + ROUND_S)
    assert carrying.rate_Bps == pytest.approx(5e7)
    assert carrying.seconds(5e7) == pytest.approx(1.0)
    assert carrying.seconds(1e7) == pytest.approx(0.2)


def test_what_is_more_than_the_last_round_goes_at_what_is_known() -> None:
    carrying = Carrying(1e8, 0.04)
    carrying.record(1e8, 2.0)
    known = carrying.rate_Bps
    carrying.record(1e6, 0.05)  # too few bytes to say anything of the link
    assert carrying.rate_Bps == known
    assert carrying.seconds(1e6) < 0.01
    assert carrying.seconds(1e8) == pytest.approx(99e6 / known, rel=0.01)


def test_a_short_round_leaves_what_was_known() -> None:
    """Of its 45 ms most are the round trip: the rate may be anything from 47 MB/s on."""
    carrying = Carrying(7e7, 0.04)
    carrying.record(MEASURABLE_BYTES, 0.045)
    assert carrying.rate_Bps == 7e7


def test_a_small_round_over_a_long_way_took_no_longer_than_at_the_rate_that_is_known() -> None:
    carrying = Carrying(1e8, 0.5)
    carrying.record(1e7, 1.5)
    carrying.record(25_000, 0.5)
    assert carrying.seconds(25_000) == pytest.approx(25_000 / carrying.rate_Bps)


def test_an_unlimited_link_takes_no_time_and_none_takes_forever() -> None:
    assert Carrying(math.inf, 0.0).seconds(1e9) == 0.0
    assert Carrying(0.0, 0.0).seconds(1.0) == math.inf


@given(
    rounds=st.lists(st.tuples(st.floats(1, 1e9), st.floats(1e-3, 100)), min_size=1, max_size=5),
    rtt_s=st.floats(0, 1),
    sizes=st.tuples(st.floats(0, 1e9), st.floats(0, 1e9)),
)
def test_more_bytes_never_take_less(
    rounds: list[tuple[float, float]], rtt_s: float, sizes: tuple[float, float]
) -> None:
    carrying = Carrying(1e8, rtt_s)
    for size, seconds in rounds:
        carrying.record(size, seconds)
    less, more = sorted(sizes)
    assert carrying.seconds(less) <= carrying.seconds(more) * (1 + 1e-9)
    assert carrying.rate_Bps > 0
