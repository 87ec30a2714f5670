"""Strategies in virtual time, against costs worked out by hand."""

from __future__ import annotations

import dataclasses

import pytest

from pageferry.common.config.strategy import StrategyConfig
from pageferry.common.strategy import PostCopy, PreCopy, StopAndCopyStrategy, ThreePath
from pageferry.common.strategy.base import NextRound, RoundKind, StopAndCopy
from pageferry.common.strategy.conditions import Conditions, Stale
from pageferry.common.strategy.forecast import AsTaken, Ended, Played, play_strategy

PAGES = 1000
FULL = 4_104_000
RATE = 4_104_000.0  # all of memory takes a second


def under(pages_a_second: float, *, round_s: float = 0.0) -> Conditions:
    def stale(seconds: float) -> Stale:
        pages = min(pages_a_second * seconds, PAGES)
        return Stale(pages, pages * 4104)

    return Conditions(
        pages_total=PAGES,
        full_bytes=FULL,
        missing_page_bytes=4104,
        bandwidth_Bps=RATE,
        round_s=round_s,
        decide_s=0.0,
        switchover_s=0.25,
        last_bytes=0,
        last_s=0.0,
        stale=stale,
    )


class TestByHand:
    def test_stop_and_copy_stops_for_everything(self) -> None:
        cost = play_strategy(StopAndCopyStrategy(StrategyConfig()), under(500))
        assert (cost.downtime_s, cost.total_s) == pytest.approx((1.25, 1.25))
        assert (cost.bytes, cost.rounds, cost.path) == (FULL, 1, None)

    def test_post_copy_stops_for_the_switchover_only(self) -> None:
        cost = play_strategy(PostCopy(StrategyConfig()), under(500))
        assert (cost.downtime_s, cost.total_s) == pytest.approx((0.25, 1.25))
        assert (cost.bytes, cost.rounds) == (FULL, 0)

    def test_pre_copy_halves_what_is_left(self) -> None:
        config = StrategyConfig(max_rounds=2, downtime_limit=0.001)
        cost = play_strategy(PreCopy(config), under(500))
        # 1 s, then 0.5, then 0.25; an eighth of memory is left.
        assert cost.downtime_s == pytest.approx(0.125 + 0.25)
        assert cost.total_s == pytest.approx(1.75 + 0.375)
        assert cost.bytes == pytest.approx(FULL * 1.875, abs=4)
        assert cost.rounds == 4

    def test_a_round_takes_more_than_its_bytes(self) -> None:
        config = StrategyConfig(max_rounds=0, downtime_limit=0.001)
        cost = play_strategy(PreCopy(config), under(0, round_s=0.5))
        assert cost.total_s == pytest.approx(1.5 + 0.25)

    @pytest.mark.parametrize(("rate", "path"), [(99, 1), (100, 2), (499, 2), (500, 3)])
    def test_the_path_is_the_strategys_own(self, rate: float, path: int) -> None:
        assert play_strategy(ThreePath(StrategyConfig()), under(rate)).path == path

    @pytest.mark.parametrize("path", [1, 2, 3])
    @pytest.mark.parametrize("rate", [0, 99, 300, 999])
    def test_a_path_that_is_forced(self, rate: float, path: int) -> None:
        cost = play_strategy(ThreePath(StrategyConfig(), forced=path), under(rate))
        assert cost.path == path
        if path == 3:
            assert cost.total_s == pytest.approx(1.25 + rate / PAGES)


def test_a_round_without_a_drain_leaves_what_the_cache_holds() -> None:
    def stale(seconds: float) -> Stale:
        return Stale(200 * seconds, 820_800 * seconds, memory_share=0.25, cached_share=0.75)

    conditions = dataclasses.replace(under(0), stale=stale)
    config = StrategyConfig(max_rounds=1, path3="stop-and-copy")
    cost = play_strategy(ThreePath(config, forced=2), conditions)
    # 1 s leaves 200 pages; the held round sends 50 of them in 0.05 s, and 10 more become stale;
    # 150 + 10 are drained in 0.16 s, and 32 are left for the stop.
    assert cost.rounds == 4
    assert cost.bytes == pytest.approx(FULL + (50 + 160 + 32) * 4104, abs=4)


def test_the_guest_runs_on_while_it_is_decided() -> None:
    conditions = dataclasses.replace(under(100), decide_s=0.5)
    config = StrategyConfig(max_rounds=0, downtime_limit=0.001)
    cost = play_strategy(PreCopy(config), conditions)
    # 1 s of copying and 0.5 s of thinking leave 150 pages.
    assert cost.bytes == FULL + 150 * 4104
    assert cost.total_s == pytest.approx(1.5 + 0.25 + 0.15)


def test_a_throttled_guest_leaves_less() -> None:
    config = StrategyConfig(max_rounds=30, downtime_limit=0.4, auto_converge=True)
    fast = under(2000)  # all of memory twice a second
    plain = play_strategy(PreCopy(config.model_copy(update={"auto_converge": False})), fast)
    slowed = play_strategy(PreCopy(config), fast)
    assert plain.rounds == 32
    assert plain.downtime_s == pytest.approx(1.25)
    assert slowed.rounds < 12
    assert slowed.downtime_s <= 0.4
    assert slowed.total_s < plain.total_s


def test_the_way_that_was_taken_is_not_decided_again() -> None:
    config = StrategyConfig(downtime_limit=0.001)
    full = NextRound(RoundKind.FULL, drain=False, hold=False, reason="")
    throttled = NextRound(RoundKind.DIRTY, drain=False, hold=False, reason="", throttle=0.5)
    taken = AsTaken(config, [full, throttled, StopAndCopy("")], 2)
    cost = play_strategy(taken, under(500))
    # 1 s leaves 500 pages; 0.5 s of half a guest leaves 125, though no strategy would stop there.
    assert (cost.rounds, cost.path) == (3, 2)
    assert cost.bytes == pytest.approx(FULL * 1.625, abs=4)
    assert cost.downtime_s == pytest.approx(0.125 + 0.25)


def test_who_listens_is_told_of_every_round_and_of_the_end() -> None:
    config = StrategyConfig(max_rounds=2, downtime_limit=0.001)
    told: list[Played | Ended] = []
    cost = play_strategy(PreCopy(config), under(500), told.append)
    *rounds, end = told
    assert [type(each) for each in rounds] == [Played] * (cost.rounds - 1)
    assert isinstance(end, Ended)
    played = [each for each in rounds if isinstance(each, Played)]
    assert [each.start_s for each in played] == pytest.approx([0.0, 1.0, 1.5])
    assert [each.sent.pages for each in played] == pytest.approx([1000, 500, 250])
    assert isinstance(end.decision, StopAndCopy)
    assert (end.end_s, end.ran_s, end.left.pages) == pytest.approx((1.75, 1.75, 125))
    assert sum(each.sent.bytes for each in played) + end.left.bytes == pytest.approx(cost.bytes)
