from __future__ import annotations

import math

import pytest

from pageferry.common.strategy import NextRound, StopAndCopy
from tests.support.strategy_contract import PAGES, StrategyContract, drive, stats, tell


class TestPreCopy(StrategyContract):
    name = "pre-copy"

    def test_every_round_drains_first_and_none_holds(self) -> None:
        told = [tell(decision) for decision in drive(self.make(), [PAGES, 60_000, 30_000, 100])]
        assert told == ["full+drain", "dirty+drain", "dirty+drain", "dirty+drain", "stop"]

    @pytest.mark.parametrize(
        ("remaining", "bandwidth", "switchover", "stops"),
        [
            (0, 1e8, 0.0, True),
            (0, 0.0, 0.1, True),  # nothing is left, so the link does not matter
            (1, 0.0, 0.0, False),
            (20_000_000, 1e8, 0.009, True),  # 209 ms; the target is 210
            (20_000_000, 1e8, 0.011, False),
            (29_000_000, 1e8, 0.0, False),  # would fit the limit, but not with the margin
            (10**12, math.inf, 0.002, True),
            (0, 1e8, 0.211, False),  # the fixed part alone is too much
        ],
    )
    def test_it_stops_when_the_rest_fits_the_target(
        self, remaining: int, bandwidth: float, switchover: float, stops: bool
    ) -> None:
        strategy = self.make(downtime_limit=0.3)
        strategy.begin()
        seen = stats(
            1, 5000, remaining_bytes=remaining, bandwidth_Bps=bandwidth, switchover_s=switchover
        )
        assert isinstance(strategy.decide(seen), StopAndCopy) == stops

    @pytest.mark.parametrize("max_rounds", [0, 1, 9])
    def test_it_does_not_go_on_for_ever(self, max_rounds: int) -> None:
        decisions = drive(self.make(max_rounds=max_rounds), [PAGES] * 20)
        rounds = [d for d in decisions if isinstance(d, NextRound)]
        assert [r.kind for r in rounds] == ["full"] + ["dirty"] * max_rounds
        assert isinstance(decisions[-1], StopAndCopy)
        assert f"did not converge within {max_rounds} round" in decisions[-1].reason

    def test_a_last_round_that_fits_has_converged(self) -> None:
        last = drive(self.make(max_rounds=1), [PAGES, 10])[-1]
        assert isinstance(last, StopAndCopy)
        assert "converge" not in last.reason

    def test_reasons_have_the_figures(self) -> None:
        strategy = self.make()
        strategy.begin()
        reason = strategy.decide(stats(1, 43_123)).reason
        assert "32.9 % of memory is dirty (43,123 of 131,072 pages)" in reason
        assert "1,769 ms is more than 210 ms, 70% of 300ms" in reason
