"""The limiter as a function of time: never above its rate, and as near to it as senders allow."""

import math

from hypothesis import given
from hypothesis import strategies as st

from common.wire.pacing import CREDIT_S, SLICE_MAX, SLICE_MIN, Pacer

sizes = st.lists(st.integers(1, 200_000), min_size=1, max_size=60)
rates = st.floats(1e4, 1e10)


@given(sizes=sizes, rate=rates, late=st.lists(st.floats(0, 0.05), max_size=60))
def test_never_above_the_rate_over_any_stretch(
    sizes: list[int], rate: float, late: list[float]
) -> None:
    pacer = Pacer(rate)
    now = 100.0
    sent: list[tuple[float, int]] = []  # when a piece went out, and its size
    for index, size in enumerate(sizes):
        now += pacer.reserve(size, now)
        sent.append((now, size))
        now += late[index] if index < len(late) else 0.0
    for first in range(len(sent)):
        total = 0
        for last in range(first, len(sent)):
            # A piece that has just been sent occupies the wire from now on, not until now.
            if total:
                elapsed = sent[last][0] - sent[first][0]
                assert total <= rate * (elapsed + CREDIT_S) * (1 + 1e-6) + 1
            total += sent[last][1]


@given(sizes=sizes, rate=rates)
def test_a_sender_that_is_always_ready_gets_the_whole_rate(sizes: list[int], rate: float) -> None:
    pacer = Pacer(rate)
    start = now = 5.0
    for size in sizes:
        now += pacer.reserve(size, now)
    now += pacer.reserve(1, now)
    assert math.isclose(now - start + CREDIT_S, sum(sizes) / rate, rel_tol=1e-6, abs_tol=CREDIT_S)


def test_unlimited_never_waits() -> None:
    pacer = Pacer(math.inf)
    assert pacer.reserve(2**40, 0.0) == 0.0
    assert pacer.slice_bytes == SLICE_MAX


def test_slices_follow_the_rate() -> None:
    assert Pacer(1e5).slice_bytes == SLICE_MIN
    assert Pacer(1e8).slice_bytes == 65_000
