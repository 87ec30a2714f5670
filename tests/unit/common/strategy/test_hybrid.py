from __future__ import annotations

import pytest
from pydantic import ValidationError

from pageferry.common.config.postcopy_trigger import Trigger
from pageferry.common.config.strategy import StrategyConfig
from pageferry.common.strategy import NextRound, StopAndCopy, SwitchToPostCopy
from tests.support.strategy_contract import PAGES, StrategyContract, drive, stats, tell

HOT = PAGES // 2  # a rest that never fits any downtime


class TestHybrid(StrategyContract):
    name = "hybrid"

    @pytest.mark.parametrize(
        ("after", "dirty", "expected"),
        [
            ("rounds=0", [], ["post-copy"]),
            ("rounds=1", [HOT], ["full+drain", "post-copy"]),
            ("rounds=2", [HOT, HOT], ["full+drain", "dirty+drain", "post-copy"]),
            # what converges is stopped, and needs no post-copy
            ("rounds=3", [HOT, 100], ["full+drain", "dirty+drain", "stop"]),
            (
                "stall",
                [HOT, HOT // 2, HOT // 2],
                ["full+drain"] + ["dirty+drain"] * 2 + ["post-copy"],
            ),
            ("stall", [HOT, int(0.9 * HOT) + 1], ["full+drain", "dirty+drain", "post-copy"]),
            # 5.4 s a round in these tables
            ("time=10s", [HOT, HOT], ["full+drain", "dirty+drain", "post-copy"]),
            ("time=1s", [HOT], ["full+drain", "post-copy"]),
        ],
    )
    def test_it_switches_at_its_trigger(
        self, after: str, dirty: list[int], expected: list[str]
    ) -> None:
        decisions = drive(self.make(postcopy_after=after), dirty)
        assert [tell(decision) for decision in decisions] == expected

    @pytest.mark.parametrize("after", ["stall", "time=1h", "rounds=1000"])
    def test_it_does_not_go_on_for_ever(self, after: str) -> None:
        shrinking = [int(PAGES * 0.85**n) for n in range(40)]
        decisions = drive(self.make(postcopy_after=after, max_rounds=3), shrinking)
        assert len([d for d in decisions if isinstance(d, NextRound)]) == 4
        assert isinstance(decisions[-1], SwitchToPostCopy)

    def test_it_stops_a_guest_that_fits(self) -> None:
        strategy = self.make()
        strategy.begin()
        assert isinstance(strategy.decide(stats(1, 10)), StopAndCopy)


@pytest.mark.parametrize("text", ["rounds=2", "time=3s", "time=250ms", "stall"])
def test_a_trigger_is_spelled_as_it_was_written(text: str) -> None:
    assert Trigger(text).spelled == text


@pytest.mark.parametrize(
    "text", ["", "rounds", "rounds=", "rounds=-1", "time=3", "never", "stall=1"]
)
def test_a_bad_trigger_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Trigger(text)
    with pytest.raises(ValidationError):
        StrategyConfig(postcopy_after=text)


def test_a_trigger_knows_its_kind_and_amount() -> None:
    trigger = Trigger("time=0.25s")
    assert (trigger.kind, trigger.amount) == ("time", 0.25)
    assert trigger == "time=0.25s"
    assert trigger.spelled == "time=250ms"
