"""cache-aware, case by case; what it promises at random points is in `sim/test_cache_aware.py`."""

from __future__ import annotations

from typing import Any

import pytest

from pageferry.common.strategy import (
    CacheStats,
    Decision,
    NextRound,
    RoundKind,
    StopAndCopy,
    Strategy,
    SwitchToPostCopy,
)
from pageferry.common.strategy.base import StalePart
from tests.support.strategy_contract import PAGES, StrategyContract, drive, stats, tell

DRAIN = "drain+drain"


def decide(strategy: Strategy, left_bytes: list[float], **more: Any) -> list[Decision]:
    """Every decision of a guest that leaves so many bytes after its rounds."""
    decisions = [strategy.begin()]
    for index, left in enumerate(left_bytes, 1):
        if not isinstance(decisions[-1], NextRound):
            break
        values: dict[str, Any] = {
            "remaining_bytes": round(left),
            "in_memory": StalePart(0, round(left)),
            "kind": RoundKind.DRAIN if index > 1 else RoundKind.FULL,
        }
        pages = min(round(left / 4096), PAGES)
        decisions.append(strategy.decide(stats(index, pages, **(values | more))))
    return decisions


class TestCacheAware(StrategyContract):
    name = "cache-aware"

    def test_it_drains_until_a_stop_fits(self) -> None:
        told = [tell(each) for each in drive(self.make(), [PAGES, 40_000, 20_000, 100])]
        assert told == ["full+drain", DRAIN, DRAIN, DRAIN, "stop"]

    def test_the_papers_rule_makes_a_stop_that_fits_the_limit_soon_enough(self) -> None:
        # 5 % of memory is path 1: after its one round 250 ms fit 300, though not 210.
        decisions = decide(self.make(downtime_limit=0.3), [27e6, 25e6])
        assert [tell(each) for each in decisions] == ["full+drain", DRAIN, "stop"]
        assert isinstance(decisions[-1], StopAndCopy)
        assert "the paper's rule" in decisions[-1].reason
        # Not a second time: where that stop did not fit, the margin is kept again.
        told = [tell(each) for each in decide(self.make(downtime_limit=0.3), [50e6, 31e6, 25e6])]
        assert told == ["full+drain", DRAIN, DRAIN, DRAIN]

    def test_it_stops_where_a_further_round_would_leave_as_much(self) -> None:
        quick = {"duration_s": 0.14, "bytes_sent": 14_000_000}
        strategy = self.make(downtime_limit=0.2)
        decisions = [strategy.begin()]
        for index, left in enumerate([80e6, 14.4e6, 14.4e6, 14.4e6], 1):
            more = {} if index == 1 else quick
            decisions.append(
                strategy.decide(
                    stats(
                        index, 60_000 if index == 1 else 3500, remaining_bytes=round(left), **more
                    )
                )
            )
            if not isinstance(decisions[-1], NextRound):
                break
        assert isinstance(decisions[-1], StopAndCopy)
        assert strategy.converged

    @pytest.mark.parametrize("rounds", [0, 1, 9])
    @pytest.mark.parametrize("path3", ["stop-and-copy", "post-copy"])
    def test_post_copy_only_where_it_is_allowed_and_rounds_are_used_up(
        self, rounds: int, path3: str
    ) -> None:
        strategy = self.make(max_rounds=rounds, path3=path3)
        decisions = drive(strategy, [PAGES] * 20)
        end = SwitchToPostCopy if path3 == "post-copy" else StopAndCopy
        assert isinstance(decisions[-1], end)
        assert rounds <= len(decisions) - 2 <= rounds + 1
        assert strategy.converged is False

    @pytest.mark.parametrize(("allowed", "then"), [(True, "dirty+hold"), (False, DRAIN)])
    def test_what_a_hot_cache_keeps_is_held_where_it_may_be(self, allowed: bool, then: str) -> None:
        """60 MB in the cache are written again and again; beside them 20 MB/s go to memory."""
        strategy = self.make(downtime_limit=1.2, hold_write_backs=allowed)
        strategy.begin()
        decisions = [
            strategy.decide(
                stats(
                    index,
                    round((memory + 60e6) / 4104),
                    duration_s=seconds,
                    elapsed_s=6.6,
                    bytes_sent=round(seconds * 1e8),
                    remaining_bytes=round(memory + 60e6),
                    in_memory=StalePart(0, round(memory)),
                    in_cache=StalePart(0, 60_000_000),
                    cache=CacheStats(0.9, 20e6 * 64 / 4104, 1000, 1.0),
                )
            )
            for index, (seconds, memory) in enumerate([(5.0, 100e6), (1.6, 32e6)], 1)
        ]
        assert [tell(decision) for decision in decisions] == [DRAIN, then]

    def test_it_never_takes_a_path(self) -> None:
        strategy = self.make()
        drive(strategy, [PAGES, 100])
        assert strategy.path is None
