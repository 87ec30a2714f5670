"""The userspace wire in virtual time: no devices, no clock."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.net import wire
from pageferry.net.shape import Shape, parse_shape
from pageferry.net.tun import offloaded, settings_of
from pageferry.net.wire import (
    DELAYED,
    HEADER,
    LOST,
    MOST,
    NONE,
    OVERTAKING,
    QUEUE_DROPS,
    fate,
    make_lane,
    make_wire,
    next_due,
    next_slot,
    push,
    wire_size,
)

MS = 1_000_000
NEVER = 2**62


def shaped(text: str, *, outage: bool = False) -> wire.Wire:
    made = make_wire(64, 4 * MOST, seed=3)
    shape = parse_shape(text) if text else Shape()
    made.settings[: wire.STOP] = settings_of(shape.forward, shape, outage=outage)
    return made


def fates(made: wire.Wire, packets: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return [fate(made.settings, made.state, now, size) for now, size in packets]


def test_unshaped_is_at_once() -> None:
    assert fates(shaped(""), [(5, 1500), (6, 1500)]) == [(5, DELAYED), (6, DELAYED)]


def test_a_delay_is_added_to_what_the_rate_takes() -> None:
    made = shaped("rate=8mbit,delay=10ms")  # a byte a microsecond
    assert fates(made, [(0, 1000), (0, 1000), (50 * MS, 1000)]) == [
        (11 * MS, DELAYED),
        (12 * MS, DELAYED),
        (61 * MS, DELAYED),
    ]


def test_a_full_queue_drops_what_comes_and_nothing_that_waits() -> None:
    made = shaped("rate=80mbit,queue=10ms")
    got = fates(made, [(0, 1000)] * 200)
    assert sum(lane == DELAYED for _, lane in got) == 100
    assert made.state[QUEUE_DROPS] == 100
    assert fates(made, [(1 * MS, 1000)])[0][1] == DELAYED  # ten have left since


def test_an_outage_swallows_everything() -> None:
    assert {lane for _, lane in fates(shaped("", outage=True), [(0, 100)] * 9)} == {NONE}


@pytest.mark.parametrize("share", [0.01, 0.3])
def test_loss_is_a_share_of_the_packets(share: float) -> None:
    made = shaped(f"loss={share:.0%}")
    n = 20_000
    got = fates(made, [(i, 1500) for i in range(n)])
    lost = sum(lane == NONE for _, lane in got)
    assert lost == made.state[LOST]
    assert abs(lost - n * share) < 5 * math.sqrt(n * share * (1 - share))


def test_jitter_is_even_around_the_delay() -> None:
    made = shaped("delay=10ms,jitter=4ms")
    # Far enough apart that order takes nothing away.
    delays = [
        fate(made.settings, made.state, i * 100 * MS, 100)[0] - i * 100 * MS for i in range(4000)
    ]
    assert min(delays) >= 6 * MS
    assert max(delays) <= 14 * MS
    assert abs(sum(delays) / len(delays) - 10 * MS) < 0.2 * MS
    assert min(delays) < 6.2 * MS
    assert max(delays) > 13.8 * MS


def test_those_that_overtake_have_no_delay() -> None:
    made = shaped("delay=10ms,reorder=50%")
    got = fates(made, [(i, 100) for i in range(1000)])
    fast = [(i, due) for i, (due, lane) in enumerate(got) if lane == OVERTAKING]
    assert 400 < len(fast) < 600
    assert all(due == i for i, due in fast)
    assert all(due == i + 10 * MS for i, (due, lane) in enumerate(got) if lane == DELAYED)


CHANGES = st.sampled_from(
    ["rate=8mbit", "rate=80mbit,delay=5ms", "delay=20ms,jitter=10ms", "", "delay=1ms,reorder=20%"]
)


@given(st.lists(st.tuples(CHANGES, st.integers(0, 5 * MS), st.integers(60, 65_000)), max_size=80))
def test_packets_of_a_lane_keep_their_order_and_none_is_early(
    packets: list[tuple[str, int, int]],
) -> None:
    """Whatever the link becomes meanwhile; and the rate is kept over any stretch."""
    made = make_wire(64, 4 * MOST, seed=1)
    now = 0
    last = {DELAYED: 0, OVERTAKING: 0}
    for text, gap, size in packets:
        shape = parse_shape(text) if text else Shape()
        direction = shape.forward
        made.settings[: wire.STOP] = settings_of(direction, shape, outage=False)
        now += gap
        due, lane = fate(made.settings, made.state, now, size)
        if lane == NONE:
            continue
        assert due >= last[lane]
        least = 0.0 if lane == OVERTAKING else direction.delay - direction.jitter
        assert due >= now + int((least + size / direction.rate) * 1e9) - 1
        last[lane] = due


@given(st.integers(8, 800), st.lists(st.integers(60, 9000), min_size=30, max_size=60))
def test_a_stream_takes_the_time_of_its_rate(mbit: int, sizes: list[int]) -> None:
    made = shaped(f"rate={mbit}mbit,queue=60s")
    dues = [due for due, _ in fates(made, [(0, size) for size in sizes])]
    exact = sum(sizes) * 8e3 / mbit
    assert dues[-1] == pytest.approx(exact, abs=len(sizes))


SIZES = st.sampled_from([HEADER + 1, 1500, MOST // 2, MOST]) | st.integers(HEADER + 1, MOST)


@given(st.lists(SIZES | SIZES | st.none(), max_size=60))
def test_a_lane_is_a_queue(steps: list[int | None]) -> None:
    """Against a list: no packet lies over another one, or is out of its room. None: one leaves."""
    lane = make_lane(16, 3 * MOST + 1000)
    model: list[tuple[int, int, int]] = []
    for clock, size in enumerate(steps):
        if size is None:
            if model:
                lane.words[wire.FIRST] += 1
                model.pop(0)
        elif (at := next_slot(lane)) >= 0:
            assert at + MOST <= len(lane.room)
            for _, other, length in model:
                assert at + size <= other or other + length <= at
            push(lane, clock, size)
            model.append((clock, at, size))
        else:
            assert len(model) == 16 or sum(length for _, _, length in model) > 1000
        assert next_due(lane, NEVER) == (model[0][0] if model else NEVER)


def packet(kind: int, segment: int, length: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """An IPv4 packet of TCP with time stamps, behind its virtio_net_hdr."""
    header = struct.pack("<BBHHHH", 1, kind, 52, segment, 20, 16)
    body = bytearray(length)
    body[20 + 12] = 8 << 4
    return np.frombuffer(header + bytes(body), np.uint8).copy()


def test_a_packet_is_itself_and_a_frame_header() -> None:
    assert wire_size(packet(0, 0, 1500), 0, HEADER + 1500) == 1514


def test_a_piece_is_all_its_segments_with_all_their_headers() -> None:
    length = 52 + 10 * 1448 + 7
    assert wire_size(packet(1, 1448, length), 0, HEADER + length) == length + 10 * 52 + 11 * 14


def test_a_wire_that_has_stopped_returns_at_once() -> None:
    made = shaped("")
    made.settings[wire.STOP] = 1
    wire.forward(made, -1, -1, -1)


@pytest.mark.parametrize(
    ("asked", "shape", "on"),
    [
        ("auto", "delay=5ms", True),
        ("auto", "rate=500mbit", True),
        ("auto", "rate=400mbit", False),
        ("auto", "loss=1%", False),
        ("auto", "delay=1ms,reorder-back=1%", False),
        ("on", "loss=1%", True),
        ("off", "delay=5ms", False),
    ],
)
def test_pieces_where_packets_do_not_count(asked: str, shape: str, on: bool) -> None:
    assert offloaded(asked, [Shape(), parse_shape(shape)]) is on  # type: ignore[arg-type]
