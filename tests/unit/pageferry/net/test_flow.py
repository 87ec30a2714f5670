"""The relay's timing, in virtual time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.errors import UsageError
from pageferry.net.flow import LEAST_PIECE, MOST_PIECE, ByteFlow, refuse_packets
from pageferry.net.schedule import parse_schedule, schedule_moments
from pageferry.net.shape import parse_shape


def flow(text: str) -> ByteFlow:
    made = ByteFlow()
    shape = parse_shape(text)
    made.change(shape.forward, shape)
    return made


def test_a_delay_is_one_way_and_a_rate_is_shared() -> None:
    made = flow("rate=8mbit,delay=10ms")
    assert made.due(1000, 5.0) == pytest.approx(5.011)
    assert made.due(1000, 5.0) == pytest.approx(5.012)
    assert made.due(1000, 6.0) == pytest.approx(6.011)


def test_without_a_rate_nothing_waits() -> None:
    made = flow("delay=10ms")
    assert made.due(1 << 30, 1.0) == made.due(1 << 30, 1.0) == pytest.approx(1.01)
    assert made.piece == MOST_PIECE


def test_pieces_are_small_where_the_rate_is() -> None:
    assert flow("rate=1mbit").piece == LEAST_PIECE
    assert flow("rate=80mbit").piece == 20_000


def test_a_window_holds_what_flies_and_what_waits() -> None:
    assert flow("rate=800mbit,delay=20ms,queue=30ms").window == 5_000_000


@given(
    st.lists(
        st.tuples(st.floats(0, 0.1), st.integers(1, 100_000), st.sampled_from([5, 20, 80])),
        min_size=1,
        max_size=50,
    )
)
def test_bytes_keep_their_order_whatever_changes(
    pieces: list[tuple[float, int, int]],
) -> None:
    made = ByteFlow()
    now = last = 0.0
    for gap, size, delay_ms in pieces:
        shape = parse_shape(f"rate=8mbit,delay={delay_ms}ms,jitter=2ms")
        made.change(shape.forward, shape)
        now += gap
        due = made.due(size, now)
        assert due >= last
        assert due >= now + size / 1e6 + (delay_ms - 2) / 1e3 - 1e-9
        last = due


@pytest.mark.parametrize(
    ("shape", "schedule", "word"),
    [
        ("loss=1%", "", "loss"),
        ("delay=1ms,reorder-back=1%", "", "reorder"),
        ("rate=1mbit", "at 1s loss=1%", "loss"),
    ],
)
def test_what_needs_packets_is_refused(shape: str, schedule: str, word: str) -> None:
    wanted = parse_shape(shape)
    with pytest.raises(UsageError, match=f"--link relay has no {word}"):
        refuse_packets(wanted, schedule_moments(wanted, parse_schedule([schedule])))
