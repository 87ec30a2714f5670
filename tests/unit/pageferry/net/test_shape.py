from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.errors import UsageError
from pageferry.net.shape import (
    LEAST_QUEUE,
    NAMES,
    RTT,
    Direction,
    Shape,
    ShapeOptions,
    parse_shape,
    shape_of,
)


def test_both_directions_unless_one_differs() -> None:
    shape = parse_shape("rate=800mbit, delay=5ms,jitter=1ms,loss-back=1%,rate-back=10mbit")
    assert shape.forward == Direction(rate=1e8, delay=0.005, jitter=0.001)
    assert shape.back == Direction(rate=1.25e6, delay=0.005, jitter=0.001, loss=0.01)
    assert shape.round_trip_s == 0.01


def test_options_say_the_same_as_text() -> None:
    options = ShapeOptions(rate="800mbit", delay="5ms", loss_back="1%", reorder_back="2%")
    assert shape_of(options) == parse_shape("rate=800mbit,delay=5ms,loss-back=1%,reorder-back=2%")
    assert shape_of(ShapeOptions()) == Shape()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not NAME=VALUE"),
        ("rate", "'rate' is not NAME=VALUE"),
        ("rate=", "is not NAME=VALUE"),
        ("rate=1mbit,rate=2mbit", "rate is given twice"),
        ("speed=1mbit", "a link has no 'speed'"),
        ("rate=1", "'1' is not a rate"),
        ("rate=1kbit", "at least 1kB/s"),
        ("rate-back=1kbit", "rate-back: '1kbit' is"),
        ("rtt=x", "rtt: 'x' is not a time: expected a time from 0s to 2min"),
        ("rtt=5m", "rtt: '5m' is 5min, too long: expected a time from 0s to 2min"),
        ("rate=100gbit", "is above 4GB/s"),
        ("delay=5", "'5' is not a time"),
        ("delay=2h", "from 0s to 1min"),
        ("jitter=1ms", "jitter 1ms is above delay 0s"),
        ("reorder=1%", "reorder needs a delay"),
        ("loss=100%", "loss"),
        ("delay=1ms,delay-back=0s,reorder=1%", "reorder needs a delay"),
        ("queue=0s", "queue"),
    ],
)
def test_what_is_wrong_is_said(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=r"^--net: ") as caught:
        parse_shape(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_queue_is_time_at_the_rate_and_a_round_trip_at_the_least() -> None:
    shape = parse_shape("rate=80mbit,delay=100ms,queue-back=10ms")
    assert shape.queue_bytes(shape.forward) == 2_000_000
    assert shape.queue_bytes(shape.back) == 100_000
    assert Shape().queue_bytes(Direction()) == 0
    slow = parse_shape("rate=100kbit")
    assert slow.queue_bytes(slow.forward) == LEAST_QUEUE


def test_a_direction_is_said_in_the_options_words() -> None:
    shape = parse_shape("rate=100mbit,delay=10ms,loss=0.1%")
    assert shape.forward.words() == "rate 12.5MB/s, delay 10ms, loss 0.1%"
    assert Direction().words() == "unshaped"


@given(
    st.builds(
        Direction,
        rate=st.floats(1000, 4e9) | st.just(math.inf),
        delay=st.floats(0.1, 60),
        jitter=st.floats(0, 0.1),
        loss=st.floats(0, 0.99),
        reorder=st.floats(0, 0.99),
        queue=st.floats(0.001, 60) | st.none(),
    )
)
def test_a_shape_survives_its_pipe(direction: Direction) -> None:
    shape = Shape(forward=direction)
    assert Shape.model_validate_json(shape.model_dump_json()) == shape


def test_every_option_has_one_for_the_way_back() -> None:
    assert set(ShapeOptions.model_fields) == {*NAMES, *(f"{name}_back" for name in NAMES), RTT}


def test_a_size_is_no_rate_of_a_link() -> None:
    with pytest.raises(UsageError, match=r"'10GB' is a size: expected a rate, .* as in 10GB/s"):
        parse_shape("10GB")
