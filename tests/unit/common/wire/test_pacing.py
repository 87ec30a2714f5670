"""The limiter as a function of time: never above its rate, and as near to it as senders allow."""

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.wire.pacing import (
    CREDIT_S,
    KERNEL_LEAD_S,
    KERNEL_PEAK,
    LATE_S,
    PEAK,
    SLICE_MAX,
    SLICE_MIN,
    WINDOW_S,
    Pacer,
    Windows,
)

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
                assert total <= rate * (elapsed + LATE_S) * (1 + 1e-6) + 1
                assert total <= PEAK * rate * (elapsed + CREDIT_S) * (1 + 1e-6) + 1
            total += sent[last][1]


@given(sizes=sizes, rate=rates)
def test_a_sender_that_is_always_ready_gets_the_whole_rate(sizes: list[int], rate: float) -> None:
    pacer = Pacer(rate)
    start = now = 5.0
    for size in sizes:
        now += pacer.reserve(size, now)
    now += pacer.reserve(1, now)
    assert math.isclose(now - start, sum(sizes) / rate, rel_tol=1e-6, abs_tol=1e-9)


def test_who_was_late_catches_up_at_the_peak_rate_and_not_by_more_than_a_little() -> None:
    pacer, now = Pacer(1e6), 5.0
    for late, caught_up in ((0.0, 0.0), (0.01, 0.01), (10.0, LATE_S)):
        now += pacer.reserve(1000, now) + late
        start = now
        for _ in range(1000):
            now += pacer.reserve(1000, now)
        now += pacer.reserve(1, now)
        # The piece that was booked before the pause is in it, too.
        assert now - start == pytest.approx(1.0 - caught_up + (late == 0.0) * 1e-3, abs=2e-3)


def test_unlimited_never_waits() -> None:
    pacer = Pacer(math.inf)
    assert pacer.reserve(2**40, 0.0) == 0.0
    assert pacer.slice_bytes == SLICE_MAX


def test_slices_follow_the_rate() -> None:
    assert Pacer(1e5).slice_bytes == SLICE_MIN
    assert Pacer(1e8).slice_bytes == 65_000
    assert Pacer(1e8, kernel_channels=2).slice_bytes == 250_000


@given(sizes=sizes, rate=rates, late=st.lists(st.floats(0, 0.2), max_size=60))
def test_where_the_kernel_paces_the_schedule_is_still_the_limit(
    sizes: list[int], rate: float, late: list[float]
) -> None:
    pacer = Pacer(rate, kernel_channels=2)
    now, start, total = 100.0, 100.0, 0
    for index, size in enumerate(sizes):
        now += pacer.reserve(size, now)
        if total:
            allowed = now - start + (LATE_S if any(late[:index]) else 0) + KERNEL_LEAD_S
            assert total <= rate * allowed * (1 + 1e-6) + 1
        total += size
        now += late[index] if index < len(late) else 0.0


def test_each_socket_gets_its_share_of_what_the_rate_is_now() -> None:
    pacer = Pacer(1e8, kernel_channels=4)
    with contextlib.ExitStack() as sending:
        for _ in range(4):
            sending.enter_context(pacer.sending())
        assert pacer.socket_rate == round(1e8 * KERNEL_PEAK / 4)
        pacer.rate = 1e6
        assert pacer.socket_rate == round(1e6 * KERNEL_PEAK / 4)
        pacer.rate = 1.0
        assert pacer.socket_rate == 1
        pacer.rate = math.inf
        assert pacer.socket_rate is None
    assert Pacer(1e8).socket_rate is None


def test_who_sends_alone_has_the_whole_rate() -> None:
    pacer = Pacer(1e8, kernel_channels=16)
    whole = round(1e8 * KERNEL_PEAK)
    assert pacer.socket_rate == whole
    with pacer.sending():
        assert pacer.socket_rate == whole
        with pacer.sending():
            assert pacer.socket_rate == round(whole / 2)
        assert pacer.socket_rate == whole


class TestWindows:
    @staticmethod
    def of(sent: list[tuple[float, int]], rate: float = 1e6) -> Windows:
        windows = Windows()
        for at_ms, n in sent:
            windows.add(n, 50.0005 + at_ms / 1e3, rate)
        return windows

    def test_an_even_stream_has_the_same_share_in_all_windows(self) -> None:
        windows = self.of([(ms, 1000) for ms in range(100)])
        assert windows.total == 8  # all but the first and the last
        assert [windows.share(q) for q in (0.5, 0.99, 1.0)] == [1.0, 1.0, 1.0]

    def test_bursts_are_seen(self) -> None:
        windows = self.of([(ms, 500 if ms // 10 % 2 else 1500) for ms in range(220)])
        assert windows.total == 20
        assert (windows.share(0.5), windows.share(1.0)) == (0.5, 1.5)

    def test_what_lies_beside_a_pause_is_not_counted(self) -> None:
        early, late = range(0, 45), range(115, 160)
        windows = self.of([(ms, 1000) for ms in (*early, *late)])
        assert windows.total == 6
        assert windows.share(1.0) == 1.0

    @pytest.mark.parametrize("slice_ms", [15, 131])
    def test_slices_that_take_longer_than_a_window(self, slice_ms: int) -> None:
        n = 200
        windows = self.of([(slice_ms * i, 1000 * slice_ms) for i in range(n)])
        assert windows.total == pytest.approx(n * slice_ms / 10, rel=0.02)
        shares, counts = windows.ranks.counts()
        assert (shares * counts).sum() / windows.total == pytest.approx(1e6, rel=0.02)

    def test_a_pause_at_a_low_rate(self) -> None:
        times = [15 * i for i in range(20)] + [15 * i + 60 for i in range(20, 40)]
        windows = self.of([(ms, 15_000) for ms in times])
        assert windows.total == pytest.approx(60 - 4, abs=2)

    def test_a_rate_that_changes(self) -> None:
        windows = Windows()
        for ms in range(100):
            rate = 1e6 if ms < 50 else 2e5
            windows.add(int(rate / 1e3), 50.0005 + ms / 1e3, rate)
        assert windows.share(0.5) == 1.0

    def test_a_thread_that_read_the_clock_before_another_one(self) -> None:
        """Channels share one count, and a slice is told after its time was taken."""
        times = [ms + (-12 if ms % 7 == 3 else 0) for ms in range(200)]
        windows = self.of([(ms, 1000) for ms in times])
        _shares, counts = windows.ranks.counts()
        assert (counts > 0).all()
        assert windows.total == pytest.approx(20, abs=2)
        assert windows.share(0.5) == pytest.approx(1.0, rel=0.2)

    def test_far_beyond_the_rate(self) -> None:
        assert self.of([(ms, 10**9) for ms in range(30)]).share(1.0) == 1e6

    def test_without_whole_windows_there_is_no_share(self) -> None:
        assert self.of([(0, 1)]).total == 0
        with pytest.raises(ValueError, match="no values"):
            Windows().share(0.5)

    def test_the_pacer_keeps_them_where_there_is_a_limit(self) -> None:
        for rate, expected in ((1e6, 8), (math.inf, 0)):
            pacer = Pacer(rate)
            for ms in range(100):
                pacer.sent(1000, 50.0005 + ms / 1e3)
            assert pacer.windows.total == expected
        assert pytest.approx(0.01) == WINDOW_S
