"""What every strategy must do; a strategy's own tests subclass `StrategyContract`."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pageferry.common.config.strategy import StrategyConfig
from pageferry.common.errors import LocalProtocolError
from pageferry.common.strategy import (
    REGISTRY,
    Decision,
    NextRound,
    RoundKind,
    RoundStats,
    StopAndCopy,
    Strategy,
    SwitchToPostCopy,
    make_strategy,
)

PAGES = 131_072  # 512 MiB


def stats(index: int = 1, dirty: int = 0, **changed: Any) -> RoundStats:
    """A plausible round of a 512 MiB guest over a 100 MB/s link."""
    values: dict[str, Any] = {
        "index": index,
        "kind": RoundKind.DIRTY if index > 1 else RoundKind.FULL,
        "pages_total": PAGES,
        "pages_sent": PAGES,
        "bytes_sent": PAGES * 4096,
        "duration_s": 5.4,
        "dirty_pages_after": dirty,
        "remaining_bytes": dirty * 4096,
        "dirty_rate_Bps": dirty * 4096 / 5.4,
        "bandwidth_Bps": 1e8,
        "switchover_s": 0.003,
        "elapsed_s": 5.4 * index,
    }
    return RoundStats(**(values | changed))


def drive(strategy: Strategy, dirty: list[int], pages: int = PAGES) -> list[Decision]:
    """Every decision, until the last one or until there are no more figures."""
    decisions = [strategy.begin()]
    for index, count in enumerate(dirty, 1):
        last = decisions[-1]
        if not isinstance(last, NextRound):
            break
        decisions.append(strategy.decide(stats(index, count, kind=last.kind, pages_total=pages)))
    return decisions


def tell(decision: Decision) -> str:
    """A decision in short, for tables: `drain+drain+hold`, `stop`, `post-copy`."""
    if isinstance(decision, StopAndCopy):
        return "stop"
    if isinstance(decision, SwitchToPostCopy):
        return "post-copy"
    return str(decision.kind) + "+drain" * decision.drain + "+hold" * decision.hold


class StrategyContract:
    """Subclass, and set `name`."""

    name: str

    def make(self, **config: Any) -> Strategy:
        return make_strategy(StrategyConfig(strategy=self.name, **config))

    def test_it_is_registered_under_its_name(self) -> None:
        assert REGISTRY[self.name].name == self.name
        assert type(self.make()) is REGISTRY[self.name]

    def test_two_of_them_share_nothing(self) -> None:
        first, second = self.make(), self.make()
        drive(first, [PAGES] * 3)
        assert drive(second, [0] * 20) == drive(self.make(), [0] * 20)

    def test_the_path_is_unknown_at_first(self) -> None:
        strategy = self.make()
        assert strategy.path is None
        strategy.begin()
        assert strategy.path is None

    def test_it_decides_nothing_before_it_begins(self) -> None:
        strategy = self.make()
        with pytest.raises(LocalProtocolError, match=f"{self.name}.*before begin"):
            strategy.decide(stats())
        assert drive(strategy, [0] * 20) == drive(self.make(), [0] * 20)

    def test_it_begins_only_once(self) -> None:
        strategy = self.make()
        strategy.begin()
        with pytest.raises(LocalProtocolError, match=f"{self.name}.*second time"):
            strategy.begin()

    @pytest.mark.parametrize("dirty", [0, PAGES // 4, PAGES])
    def test_an_illegal_call_changes_nothing(self, dirty: int) -> None:
        """After each decision of a whole run: a call out of order, and then the run goes on."""
        expected = drive(self.make(), [dirty] * 20)
        strategy = self.make()
        got = [strategy.begin()]
        index = 0
        while isinstance(got[-1], NextRound):
            if index:
                self.refused(strategy, stats(index, PAGES // 3), f"round {index} came after")
                self.refused(strategy, stats(0, PAGES // 3), "round 0 came after")
            index += 1
            got.append(strategy.decide(stats(index, dirty)))
        self.refused(strategy, stats(index + 1, dirty), "after the last decision")
        assert got == expected

    def refused(self, strategy: Strategy, what: RoundStats, why: str) -> None:
        before = copy.deepcopy(vars(strategy))
        path = strategy.path
        with pytest.raises(LocalProtocolError, match=f"{self.name}.*{why}"):
            strategy.decide(what)
        assert vars(strategy) == before
        assert strategy.path == path

    # One test in several subclasses is the point here; a replayed example fits them all.
    @settings(suppress_health_check=[HealthCheck.differing_executors])
    @given(
        dirty=st.lists(st.integers(0, PAGES), min_size=40, max_size=40),
        max_rounds=st.integers(0, 12),
        low=st.floats(0, 1),
        high=st.floats(0, 1),
        path3=st.sampled_from(["stop-and-copy", "post-copy"]),
        bandwidth=st.sampled_from([0.0, 1.0, 1e8, float("inf")]),
    )
    def test_it_always_ends_and_says_why(
        self,
        dirty: list[int],
        max_rounds: int,
        low: float,
        high: float,
        path3: str,
        bandwidth: float,
    ) -> None:
        low, high = sorted((low, high))
        strategy = self.make(low=low, high=high, max_rounds=max_rounds, path3=path3)
        decisions = [strategy.begin()]
        for index, count in enumerate(dirty, 1):
            if not isinstance(decisions[-1], NextRound):
                break
            path = strategy.path
            decisions.append(strategy.decide(stats(index, count, bandwidth_Bps=bandwidth)))
            assert path in (None, strategy.path)
        assert not isinstance(decisions[-1], NextRound)
        assert len(decisions) <= max_rounds + 3
        for decision in decisions:
            assert decision.reason
            assert "\n" not in decision.reason
            if isinstance(decision, NextRound):
                assert decision.kind is not RoundKind.FINAL
                assert not decision.hold or strategy.path == 2
            if isinstance(decision, SwitchToPostCopy) and self.name == "three-path":
                assert path3 == "post-copy"
