"""What a link carries, and how it is written."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UsageError
from lab.sim.link import Link, parse_link


class TestCarries:
    def test_a_wire_is_its_rate(self) -> None:
        assert Link(rate=1e8).carries("cubic") == 1e8
        assert math.isinf(Link().carries("cubic"))

    def test_a_window_a_round_trip(self) -> None:
        assert Link(rate=1e9, delay=0.05, window=1_000_000).carries("bbr") == pytest.approx(1e7)

    def test_mathis(self) -> None:
        """1460 bytes, 100 ms, 1 %: 1.22 * 10 segments a round trip."""
        link = Link(delay=0.05, loss=0.01, mss=1460)
        assert link.carries("reno") == pytest.approx(1.22 * 10 * 1460 / 0.1)

    def test_cubic_as_table_1_of_rfc_9438_has_it(self) -> None:
        """RTT 0.1 s: at a loss of 1e-4, 187 segments; at 1e-2, where Reno has 12, still 12."""
        assert Link(delay=0.05, loss=1e-4, mss=1000).carries("cubic") == pytest.approx(
            187e4, rel=0.01
        )
        assert Link(delay=0.05, loss=1e-2, mss=1000).carries("cubic") == pytest.approx(
            12.2e4, rel=0.01
        )

    def test_others_take_no_loss_for_congestion(self) -> None:
        assert Link(rate=1e8, delay=1e-4, loss=0.01).carries("bbr") == 1e8

    @given(st.floats(0, 1), st.floats(0, 0.5), st.floats(0, 0.5))
    def test_more_loss_never_carries_more(self, delay: float, one: float, other: float) -> None:
        low, high = sorted((one, other))
        better = Link(rate=1e9, delay=delay, loss=low).carries("cubic")
        assert Link(rate=1e9, delay=delay, loss=high).carries("cubic") <= better <= 1e9


class TestText:
    def test_all_of_it(self) -> None:
        link = parse_link("rate=1gbit, delay=5ms, loss=0.1%, mss=1400, window=1MiB")
        assert link == Link(rate=125e6, delay=0.005, loss=0.001, mss=1400, window=2**20)
        assert link.rtt_s == pytest.approx(0.01)
        assert parse_link("") == Link()

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("1gbit", "'1gbit' is not understood: expected rate="),
            ("speed=1gbit", "speed"),
            ("rate=fast", "fast"),
            ("loss=100%", "less than 1"),
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
