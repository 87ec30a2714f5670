"""What a link carries, and how it is written."""

from __future__ import annotations

import math
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.errors import UsageError
from pageferry.sim.link import SimulatedLink, parse_link


class TestCarries:
    def test_a_wire_is_its_rate(self) -> None:
        assert SimulatedLink(rate=1e8).carries("cubic") == 1e8
        assert math.isinf(SimulatedLink().carries("cubic"))

    def test_a_window_a_round_trip(self) -> None:
        assert SimulatedLink(rate=1e9, delay=0.05, window=1_000_000).carries(
            "bbr"
        ) == pytest.approx(1e7)

    def test_reno_carries_what_mathis_says(self) -> None:
        """1460 bytes, 100 ms, 1 %: 1.22 * 10 segments a round trip."""
        link = SimulatedLink(delay=0.05, loss=0.01, mss=1460)
        assert link.carries("reno") == pytest.approx(1.22 * 10 * 1460 / 0.1)

    def test_cubic_as_table_1_of_rfc_9438_has_it(self) -> None:
        """RTT 0.1 s: at a loss of 1e-4, 187 segments; at 1e-2, where Reno has 12, still 12."""
        assert SimulatedLink(delay=0.05, loss=1e-4, mss=1000).carries("cubic") == pytest.approx(
            187e4, rel=0.01
        )
        assert SimulatedLink(delay=0.05, loss=1e-2, mss=1000).carries("cubic") == pytest.approx(
            12.2e4, rel=0.01
        )

    def test_others_take_no_loss_for_congestion(self) -> None:
        assert SimulatedLink(rate=1e8, delay=1e-4, loss=0.01).carries("bbr") == 1e8

    @given(st.floats(0, 1), st.floats(0, 0.5), st.floats(0, 0.5))
    def test_more_loss_never_carries_more(self, delay: float, one: float, other: float) -> None:
        low, high = sorted((one, other))
        better = SimulatedLink(rate=1e9, delay=delay, loss=low).carries("cubic")
        assert SimulatedLink(rate=1e9, delay=delay, loss=high).carries("cubic") <= better <= 1e9


def sent_packet_by_packet(segments: int, link: SimulatedLink) -> float:
    """When the last of so many segments arrives, of a connection that never stops its slow start.

    An acknowledgement lets two more segments go; those that come before the link is free wait.
    """
    may_go, free_at, arrived = deque([0.0] * 10), 0.0, 0.0
    for _ in range(segments):
        free_at = max(free_at, may_go.popleft()) + link.mss / link.rate
        arrived = free_at + link.delay
        may_go += [arrived + link.delay] * 2
    return arrived


class TestSlowStart:
    def test_windows_of_10_20_40_and_80_segments(self) -> None:
        """A hundred of them fill a round trip, which with a segment's time is 101 ms."""
        link = SimulatedLink(rate=1e6, delay=0.05, mss=1000)
        lost = (101 - 10) + (101 - 20) + (101 - 40) + (101 - 80)
        assert link.slow_start_s(1e7, 0, 1e6) == pytest.approx(lost / 1e3)

    @pytest.mark.parametrize("segments", [1, 10, 11, 30, 31, 150, 151, 1000, 10_000])
    @pytest.mark.parametrize(("rate", "delay"), [(1e6, 0.05), (5e7, 0.02), (1.2e7, 0.005)])
    def test_as_packets_would_go(self, segments: int, rate: float, delay: float) -> None:
        link = SimulatedLink(rate=rate, delay=delay)
        size = segments * link.mss
        took = size / rate + link.slow_start_s(size, 0, rate) + delay
        packets = sent_packet_by_packet(segments, link)
        assert took == pytest.approx(packets, abs=2 * link.mss / rate)

    def test_what_fits_into_the_first_window_waits_for_nothing(self) -> None:
        link = SimulatedLink(rate=1e8, delay=0.1)
        assert link.slow_start_s(10 * link.mss, 0, 1e8) == 0
        assert link.slow_start_s(11 * link.mss, 0, 1e8) > 0

    def test_a_connection_has_it_once(self) -> None:
        link = SimulatedLink(rate=1e7, delay=0.05)
        assert link.slow_start_s(1e9, 1e6, 1e7) == 0
        assert 0 < link.slow_start_s(1e9, 1e5, 1e7) < link.slow_start_s(1e9, 0, 1e7)

    def test_a_wire_without_a_length_has_none(self) -> None:
        assert SimulatedLink(rate=1e7).slow_start_s(1e9, 0, 1e7) == 0

    def test_without_a_rate_it_ends_with_the_bytes(self) -> None:
        """10 and 20 segments, and what is left goes at once."""
        link = SimulatedLink(delay=0.05, mss=1000)
        assert link.slow_start_s(60_000, 0, math.inf) == pytest.approx(0.2)

    @given(st.floats(1, 1e10), st.floats(1e4, 1e10), st.floats(1e4, 1e10), st.floats(0, 0.5))
    def test_a_faster_link_is_never_slower(
        self, size: float, one: float, other: float, delay: float
    ) -> None:
        slow, fast = (
            size / rate + SimulatedLink(rate=rate, delay=delay).slow_start_s(size, 0, rate)
            for rate in sorted((one, other))
        )
        assert fast <= slow * (1 + 1e-9)


class TestQueue:
    def test_cubic_is_between_seven_tenths_and_all_of_pipe_and_queue(self) -> None:
        """20 ms of pipe and 50 of queue: 0.925 of them on average, less what is under way."""
        link = SimulatedLink(rate=12.5e6, delay=0.01)
        assert link.standing_s("cubic") == pytest.approx(0.925 * 0.07 - 0.02)
        assert link.standing_s("reno") == pytest.approx(0.75 * 0.07 - 0.02)
        assert link.standing_s("bbr") == 0

    def test_no_more_than_a_window_is_under_way(self) -> None:
        link = SimulatedLink(rate=12.5e9, delay=25e-6)
        assert link.standing_s("cubic") == pytest.approx(link.window / 12.5e9 - 50e-6)

    def test_who_does_not_reach_the_rate_fills_nothing(self) -> None:
        assert SimulatedLink(rate=1e9, delay=0.02, loss=0.01).standing_s("cubic") == 0
        assert SimulatedLink().standing_s("cubic") == 0


class TestText:
    def test_every_part_of_a_link_is_parsed(self) -> None:
        link = parse_link("rate=1gbit, delay=5ms, loss=0.1%, mss=1400, window=1MiB")
        assert link == SimulatedLink(rate=125e6, delay=0.005, loss=0.001, mss=1400, window=2**20)
        assert link.rtt_s == pytest.approx(0.01)
        assert parse_link("") == SimulatedLink()

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("speed=1gbit", "speed"),
            ("rate=fast", "fast"),
            ("loss=100%", "from 0% to below 100%"),
            ("delay=-5ms", "-5ms"),
            ("delay=1h", "delay"),
            ("rate=1gbit,rate=2gbit", "twice"),
            ("rate=1gbit,", "''"),
        ],
    )
    def test_what_is_wrong_with_it(self, text: str, words: str) -> None:
        with pytest.raises(UsageError, match="--link") as error:
            parse_link(text)
        assert words in str(error.value)
