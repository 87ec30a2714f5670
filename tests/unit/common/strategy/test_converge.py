"""When the guest is throttled, and by how much: periods in, shares out."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.config.strategy import StrategyConfig
from pageferry.common.errors import LocalProtocolError
from pageferry.common.strategy import NextRound, Period, make_strategy
from pageferry.common.strategy.converge import AIM, AutoConverge
from tests.support.strategy_contract import PAGES, StrategyContract, drive, stats

MB = 10**6


def period(dirtied: int, sent: int, fresh: int | None = None) -> Period:
    return Period(dirtied * MB, (dirtied if fresh is None else fresh) * MB, sent * MB)


HIGH, LOW = period(60, 100), period(50, 100)


def make(**config: Any) -> AutoConverge:
    return AutoConverge(StrategyConfig(auto_converge=True, **config))


class TestRoundByRound:
    """Nobody looks during a round: each is a period."""

    def shares(self, *rounds: Period, **config: Any) -> list[float]:
        converge = make(**config)
        out = []
        for each in rounds:
            converge.at_end(each)
            out.append(converge.throttle)
        return out

    def test_half_is_not_more_than_half(self) -> None:
        assert self.shares(LOW, LOW, LOW) == [0, 0, 0]

    def test_two_in_a_row_begin_it(self) -> None:
        assert self.shares(HIGH, HIGH) == [0, 0.2]
        assert self.shares(HIGH, LOW, HIGH, LOW, HIGH, HIGH) == [0, 0, 0, 0, 0, 0.2]

    def test_then_every_further_one_counts_and_no_low_one_takes_it_back(self) -> None:
        got = self.shares(HIGH, HIGH, HIGH, LOW, HIGH, LOW)
        third = 1 - 0.8 * AIM * 100 / 60
        fifth = 1 - (1 - third) * AIM * 100 / 60
        assert got == pytest.approx([0, 0.2, third, third, fifth, fifth])

    def test_a_rise_is_an_increment_at_least(self) -> None:
        # 51 of 100 calls for 1 - 0.8 * 0.4 / 0.51 = 37 %; an increment of 25 % is more.
        got = self.shares(HIGH, HIGH, period(51, 100), cpu_throttle_increment=0.25)
        assert got[-1] == pytest.approx(0.45)

    def test_and_what_the_measured_rate_calls_for(self) -> None:
        # Ten times too much while it ran for 80 % of the time: it may run for 3.2 %.
        got = self.shares(HIGH, HIGH, period(1000, 100))
        assert got[-1] == pytest.approx(1 - 0.8 * AIM * 0.1)

    def test_an_early_look_tells_how_fast_a_small_set_was_dirty(self) -> None:
        # All 60 were dirty after 2 % of the period: 40 take 2/3 of that.
        swept = Period(60 * MB, 60 * MB, 100 * MB, early_bytes=60 * MB, early_share=0.02)
        assert self.shares(HIGH, HIGH, swept)[-1] == pytest.approx(1 - 0.8 * 0.02 * 40 / 60)

    def test_a_hot_set_does_not_stand_for_the_rest(self) -> None:
        # 10 at once, and 50 more in the remaining 98 %: 40 take 0.02 + 0.98 * 30 / 50.
        mixed = Period(60 * MB, 60 * MB, 100 * MB, early_bytes=10 * MB, early_share=0.02)
        wanted = 1 - 0.8 * (0.02 + 0.98 * 30 / 50)
        assert self.shares(HIGH, HIGH, mixed)[-1] == pytest.approx(wanted)

    def test_the_most_is_the_most(self) -> None:
        everything = period(10**6, 1)
        assert self.shares(*[everything] * 9)[-1] == 0.99
        assert self.shares(*[everything] * 9, max_cpu_throttle=0.5)[-1] == 0.5
        assert make(max_cpu_throttle=0.5, cpu_throttle_initial=0.5).at_end(everything) is None

    def test_the_sentence_has_the_figures(self) -> None:
        converge = make()
        assert converge.at_end(HIGH) is None
        said = converge.at_end(HIGH)
        assert said == ("60 MB were dirtied while 100 MB were sent: the guest is throttled by 20 %")
        assert converge.at_end(LOW) is None


class TestWithinARound:
    def test_the_first_pass_is_only_looked_at(self) -> None:
        converge = make()
        for _ in range(5):
            assert converge.during_round(HIGH, first_pass=True) is None
        assert converge.throttle == 0
        # ... and counts: as a whole it was low, and yet the next round begins throttled.
        assert converge.at_end(LOW) is not None
        assert converge.throttle == 0.2

    def test_what_it_ended_with_is_what_counts(self) -> None:
        converge = make()
        for each in (HIGH, HIGH, LOW):
            converge.during_round(each, first_pass=True)
        assert converge.at_end(HIGH) is None

    def test_later_it_rises_at_once(self) -> None:
        converge = make()
        assert converge.during_round(HIGH, first_pass=False) is None
        assert converge.during_round(HIGH, first_pass=False) is not None
        assert converge.throttle == 0.2

    def test_where_all_is_stale_already_there_is_time(self) -> None:
        converge = make()
        again = period(60, 100, fresh=0)
        converge.during_round(HIGH, first_pass=False)
        for _ in range(5):
            assert converge.during_round(again, first_pass=False) is None
        assert converge.at_end(LOW) is not None

    def test_a_round_does_not_hurry_because_of_the_one_before(self) -> None:
        converge = make()
        for each in (HIGH, HIGH):
            converge.during_round(each, first_pass=True)
        converge.at_end(LOW)
        assert converge.during_round(HIGH, first_pass=False) is None
        assert converge.during_round(HIGH, first_pass=False) is not None


@given(
    st.lists(st.tuples(st.integers(0, 999), st.integers(0, 999), st.booleans()), max_size=60),
    st.floats(0.01, 0.9),
    st.floats(0.01, 0.9),
    st.floats(0.9, 0.9999),
)
def test_it_only_rises_from_the_initial_share_to_the_most(
    rounds: list[tuple[int, int, bool]], initial: float, increment: float, most: float
) -> None:
    converge = make(
        cpu_throttle_initial=initial, cpu_throttle_increment=increment, max_cpu_throttle=most
    )
    shares = [0.0]
    for dirtied, sent, ends in rounds:
        each = period(dirtied, sent)
        said = converge.at_end(each) if ends else converge.during_round(each, first_pass=False)
        assert (said is not None) == (converge.throttle > shares[-1])
        if said is not None:
            shares.append(converge.throttle)
    assert shares[1:2] in ([], [initial])
    for before, after in list(pairwise(shares))[1:]:
        assert after >= min(before + increment, most) - 1e-9
    assert shares[-1] <= most


class TestPreCopyConverging(StrategyContract):
    name = "pre-copy"

    def make(self, **config: Any) -> Any:
        return super().make(auto_converge=True, **config)

    def test_rounds_are_ordered_with_it_and_say_so(self) -> None:
        first, second, third, *_ = drive(self.make(), [PAGES] * 3)
        for order, share in ((first, 0.0), (second, 0.0), (third, 0.2)):
            assert isinstance(order, NextRound)
            assert order.throttle == share
        assert "pages); " not in second.reason
        assert third.reason.endswith("the guest is throttled by 20 %")

    def test_a_look_during_a_round(self) -> None:
        strategy = self.make()
        with pytest.raises(LocalProtocolError, match="on_dirty_sample was called outside a round"):
            strategy.on_dirty_sample(HIGH)
        strategy.begin()
        assert strategy.wants_dirty_samples
        assert strategy.on_dirty_sample(HIGH) is None
        assert strategy.on_dirty_sample(HIGH) is None
        order = strategy.decide(stats(1, PAGES // 4))
        assert order.throttle == 0.2
        strategy.on_dirty_sample(HIGH)
        raised = strategy.on_dirty_sample(HIGH)
        assert raised is not None
        assert raised.share > 0.2
        assert strategy.decide(stats(2, 60_000)).throttle == raised.share
        strategy.decide(stats(3, 0))
        with pytest.raises(LocalProtocolError, match="outside a round"):
            strategy.on_dirty_sample(HIGH)


@pytest.mark.parametrize("name", ["pre-copy", "hybrid", "three-path"])
def test_without_the_option_nobody_is_throttled(name: str) -> None:
    strategy = make_strategy(StrategyConfig(strategy=name, postcopy_after="rounds=9", high=1.0))
    assert not strategy.wants_dirty_samples
    decisions = drive(strategy, [PAGES // 2] * 20)
    assert all(each.throttle == 0 for each in decisions if isinstance(each, NextRound))


@pytest.mark.parametrize("name", ["hybrid", "three-path"])
def test_every_strategy_that_goes_in_rounds_throttles(name: str) -> None:
    config = StrategyConfig(
        strategy=name,
        postcopy_after="rounds=9",
        high=1.0,
        auto_converge=True,
    )
    decisions = drive(make_strategy(config), [PAGES * 3 // 5] * 20)
    shares = [each.throttle for each in decisions if isinstance(each, NextRound)]
    assert 0.2 in shares
    assert shares == sorted(shares)
