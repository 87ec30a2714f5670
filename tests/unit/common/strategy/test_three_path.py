"""The paper's three paths, case by case."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.config.strategy import StrategyConfig
from pageferry.common.strategy import (
    NextRound,
    StopAndCopy,
    Strategy,
    SwitchToPostCopy,
    make_strategy,
)
from tests.support.strategy_contract import PAGES, StrategyContract, drive, stats, tell

PATH_1 = ["full+drain", "dirty+drain", "stop"]
HOLD = ["full+drain", "dirty+hold"]
DRAIN = "drain+drain+hold"


class TestThreePath(StrategyContract):
    name = "three-path"

    @pytest.mark.parametrize(
        ("load", "shares", "path", "told"),
        [
            ("idle", [0.0, 0.0], 1, PATH_1),
            ("web browsing", [0.04, 0.04], 1, PATH_1),
            ("a click in path 1's round", [0.04, 0.9], 1, PATH_1),
            ("matrix, never less", [0.33] * 20, 2, [*HOLD, *[DRAIN] * 9, "stop"]),
            ("matrix, less and less", [0.33, 0.33, 0.2, 0.05], 2, [*HOLD, DRAIN, DRAIN, "stop"]),
            ("small before the first drain", [0.3, 0.01, 0.05], 2, [*HOLD, DRAIN, "stop"]),
            ("game", [0.9], 3, ["full+drain", "stop"]),
            ("memory-intensive, half of it", [0.5], 3, ["full+drain", "stop"]),
            ("all of it", [1.0], 3, ["full+drain", "stop"]),
        ],
    )
    def test_the_papers_worked_examples_take_its_paths(
        self, load: str, shares: list[float], path: int, told: list[str]
    ) -> None:
        strategy = self.make(path3="stop-and-copy")
        decisions = drive(strategy, [round(share * PAGES) for share in shares])
        assert [tell(decision) for decision in decisions] == told, load
        assert strategy.path == path

    @pytest.mark.parametrize(
        ("pages", "dirty", "path"),
        [
            # 10 % and 50 % of 131,072 are 13,107.2 and 65,536
            (131_072, 13_107, 1),
            (131_072, 13_108, 2),
            (131_072, 65_535, 2),
            (131_072, 65_536, 3),
            # whole
            (1000, 99, 1),
            (1000, 100, 2),
            (1000, 499, 2),
            (1000, 500, 3),
            (10, 0, 1),
            (10, 1, 2),
            (10, 5, 3),
            # neither whole: 1.3 and 6.5
            (13, 1, 1),
            (13, 2, 2),
            (13, 6, 2),
            (13, 7, 3),
            # where 0.1 * pages in floats is off
            (262_144, 26_214, 1),
            (262_144, 26_215, 2),
            (2**32 * 10, 2**32 - 1, 1),
            (2**32 * 10, 2**32, 2),
        ],
    )
    def test_a_threshold_belongs_to_the_higher_path(
        self, pages: int, dirty: int, path: int
    ) -> None:
        strategy = self.make()
        drive(strategy, [dirty], pages)
        assert strategy.path == path

    @given(st.integers(1, 2**40), st.integers(1, 99))
    def test_percent_are_exact_for_every_guest(self, hundredth: int, percent: int) -> None:
        pages = 100 * hundredth
        for dirty, expected in ((percent * hundredth, 2), (percent * hundredth - 1, 1)):
            strategy = self.make(low=f"{percent}%", high="100%")
            drive(strategy, [dirty], pages)
            assert strategy.path == expected

    @pytest.mark.parametrize("path3", ["stop-and-copy", "post-copy"])
    @pytest.mark.parametrize("max_rounds", [0, 1, 9])
    def test_rounds_used_up_end_as_path_3_does(self, max_rounds: int, path3: str) -> None:
        strategy = self.make(max_rounds=max_rounds, path3=path3)
        told = [tell(d) for d in drive(strategy, [PAGES // 3] * 20)]
        end = {"stop-and-copy": "stop"}.get(path3, path3)
        assert told == [*HOLD, *[DRAIN] * max_rounds, end]
        assert strategy.path == 2

    @pytest.mark.parametrize("path3", ["stop-and-copy", "post-copy"])
    @pytest.mark.parametrize("small_after", [1, 2, 9])
    def test_small_enough_ends_with_a_stop(self, small_after: int, path3: str) -> None:
        strategy = self.make(path3=path3)
        dirty = [*[PAGES // 3] * (small_after + 1), 13_107]
        decisions = drive(strategy, dirty)
        assert [tell(d) for d in decisions] == [*HOLD, *[DRAIN] * small_after, "stop"]
        assert "small enough" in decisions[-1].reason

    def test_small_enough_is_strictly_below_low(self) -> None:
        told = [tell(d) for d in drive(self.make(), [300, 300, 100, 99], pages=1000)]
        assert told == [*HOLD, DRAIN, DRAIN, "stop"]

    @pytest.mark.parametrize(
        ("path3", "end"), [("stop-and-copy", StopAndCopy), ("post-copy", SwitchToPostCopy)]
    )
    def test_path_3_hands_over_at_once(self, path3: str, end: type) -> None:
        decisions = drive(self.make(path3=path3), [PAGES])
        assert isinstance(decisions[1], end)
        assert "path 3: 100 % of memory is dirty (131,072 of 131,072 pages)" in decisions[1].reason

    @pytest.mark.parametrize(
        ("low", "high", "share", "path"),
        [
            (0.0, 0.0, 0.0, 3),
            (0.0, 1.0, 0.0, 2),
            (0.3, 0.3, 0.29, 1),
            (0.3, 0.3, 0.31, 3),
            (1.0, 1.0, 0.99, 1),
            (1.0, 1.0, 1.0, 3),
        ],
    )
    def test_thresholds_at_their_limits(
        self, low: float, high: float, share: float, path: int
    ) -> None:
        strategy = self.make(low=low, high=high)
        drive(strategy, [int(share * PAGES)])
        assert strategy.path == path

    @given(st.lists(st.integers(0, PAGES), min_size=15, max_size=15))
    def test_holds_are_asked_in_path_2_only_and_then_always(self, dirty: list[int]) -> None:
        strategy = self.make()
        for number, decision in enumerate(drive(strategy, dirty)):
            if isinstance(decision, NextRound):
                assert decision.hold == (strategy.path == 2 and number > 0)

    def test_reasons_of_a_whole_run(self) -> None:
        strategy = self.make(max_rounds=2, path3="stop-and-copy")
        reasons = [d.reason for d in drive(strategy, [43_123] * 5)]
        seen = "32.9 % of memory is dirty (43,123 of 131,072 pages)"
        assert reasons == [
            "the first round flushes the cache, sends all of memory and sees what changes",
            f"path 2 holds write-backs: {seen}, at least 10% and below 50%",
            f"path 2, drain round 1 of at most 2: {seen}",
            f"path 2, drain round 2 of at most 2: {seen}",
            f"path 2 has used up its 2 drain round(s): {seen}; hands over by stop-and-copy",
        ]

    def test_indexes_may_have_gaps(self) -> None:
        strategy = self.make()
        strategy.begin()
        for index in itertools.islice(itertools.count(3, 4), 2):
            last = strategy.decide(stats(index, 1))
        assert isinstance(last, StopAndCopy)


class TestTheStopByTheLimit:
    """`--path2-stop limit`: path 2 asks what a stop takes, not what share of memory is dirty."""

    def make(self, **config: Any) -> Strategy:
        return make_strategy(StrategyConfig(path2_stop="limit", path3="stop-and-copy", **config))

    @pytest.mark.parametrize(
        ("limit", "told"),
        [
            # 5 % of 512 MiB at 100 MB/s: 268 ms; 2 %: 107 ms
            (1.0, [*HOLD, DRAIN, "stop"]),
            (0.2, [*HOLD, DRAIN, DRAIN, "stop"]),
            (0.01, [*HOLD, *[DRAIN] * 3, "stop"]),
        ],
    )
    def test_it_goes_on_until_a_stop_fits(self, limit: float, told: list[str]) -> None:
        strategy = self.make(downtime_limit=limit, max_rounds=3)
        shares = [0.3, 0.2, 0.05, 0.02, 0.02, 0.02]
        decisions = drive(strategy, [round(share * PAGES) for share in shares])
        assert [tell(decision) for decision in decisions] == told
        assert strategy.converged == (limit > 0.01)

    @pytest.mark.parametrize(("limit", "told"), [(0.15, "stop"), (0.1, "post-copy")])
    def test_out_of_rounds_it_stops_where_that_fits_the_limit(
        self, limit: float, told: str
    ) -> None:
        """2 % of memory take 107 ms: above what is planned with, 70 % of the limit, but within."""
        config = StrategyConfig(path2_stop="limit", downtime_limit=limit, max_rounds=1)
        strategy = make_strategy(config)
        decisions = drive(strategy, [round(share * PAGES) for share in (0.3, 0.2, 0.02)])
        assert [tell(each) for each in decisions] == [*HOLD, DRAIN, told]
        assert strategy.converged == (told == "stop")

    def test_a_tenth_of_memory_is_not_small_where_the_limit_is(self) -> None:
        dirty = [round(share * PAGES) for share in (0.3, 0.2, 0.09)]
        by_limit = drive(self.make(downtime_limit=0.1), dirty)
        by_share = drive(make_strategy(StrategyConfig(downtime_limit=0.1)), dirty)
        assert tell(by_limit[-1]) == DRAIN
        assert tell(by_share[-1]) == "stop"

    def test_before_the_first_drain_it_never_stops(self) -> None:
        decisions = drive(self.make(downtime_limit=10), [round(0.3 * PAGES), 0, 0])
        assert [tell(decision) for decision in decisions] == [*HOLD, DRAIN, "stop"]

    @pytest.mark.parametrize(("share", "path"), [(0.05, 1), (0.9, 3)])
    def test_the_other_paths_do_not_look_at_it(self, share: float, path: int) -> None:
        dirty = [round(share * PAGES)] * 3
        strategies = (
            self.make(downtime_limit=1e-6),
            make_strategy(StrategyConfig(path3="stop-and-copy")),
        )
        told = [[tell(each) for each in drive(strategy, dirty)] for strategy in strategies]
        assert told[0] == told[1]
        assert strategies[0].path == path


def test_nothing_is_held_where_that_is_ruled_out() -> None:
    strategy = make_strategy(StrategyConfig(hold_write_backs=False))
    decisions = drive(strategy, [round(0.3 * PAGES)] * 20)
    assert not any(isinstance(each, NextRound) and each.hold for each in decisions)
    assert [tell(each) for each in decisions[:3]] == ["full+drain", "dirty", "drain+drain"]
