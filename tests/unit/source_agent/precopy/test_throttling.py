"""Looks during a round, and what the guest was throttled by: the scripted guest of the rounds."""

from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from pageferry.common.strategy.base import NextRound, RoundKind, Throttled
from pageferry.common.strategy.converge import Period
from pageferry.common.units import PAGE_SIZE
from tests.unit.source_agent.precopy.test_rounds import Bench


class Watching:
    """Notes what it is told; throttles as a test says."""

    def __init__(self, *answers: float) -> None:
        self.told: list[Period] = []
        self.answers = list(answers)

    def __call__(self, period: Period) -> Throttled | None:
        self.told.append(period)
        return Throttled(self.answers.pop(0), "because") if self.answers else None


@pytest.fixture
def bench() -> Bench:
    return Bench()


def order(throttle: float = 0.0) -> NextRound:
    return NextRound(RoundKind.DIRTY, drain=False, hold=False, reason="", throttle=throttle)


def test_a_round_is_throttled_from_its_start(bench: Bench) -> None:
    this = bench.rounds.send(order(0.25))
    assert bench.calls[:2] == [("throttle", 0.25), ("hold", False)]
    assert this.throttle == bench.rounds.throttling.peak == 0.25
    bench.calls.clear()
    bench.rounds.send(order(0.25))
    assert ("throttle", 0.25) not in bench.calls


def writing(bench: Bench, *writes: set[int]) -> None:
    """From now on these pages are written before each harvest in turn."""
    harvest, turns = bench.guest.harvest, iter(writes)

    def write_and_harvest(out: NDArray[np.uint64]) -> NDArray[np.uint64]:
        bench.guest.log |= next(turns, set())
        return harvest(out)

    bench.guest.harvest = write_and_harvest  # type: ignore[method-assign]


def sizes(told: list[Period]) -> list[tuple[int, int, int]]:
    return [
        (each.dirtied_bytes // PAGE_SIZE, each.fresh_bytes // PAGE_SIZE, each.sent_bytes)
        for each in told
    ]


def test_looks_count_pages_once_a_period_and_fresh_ones_once(bench: Bench) -> None:
    bench.full()
    writing(bench, set(), {1, 2, 3}, {2, 3, 4, 5})
    bench.page_sender.looks = [700, 500, 0, 600]
    watching = Watching()
    this = bench.rounds.send(order(), watching)
    # Nothing went out before the third look, which was none.
    assert sizes(watching.told) == [(3, 3, 700), (4, 2, 500), (0, 0, 600)]
    # What looks took out of the log is stale all the same, and goes with the next round.
    assert bench.rounds.acknowledged(this, 1.0).dirty_pages_after == 5
    bench.page_sender.looks = []
    bench.rounds.send(order())
    assert bench.page_sender.sent[-1] == [1, 2, 3, 4, 5]


def test_an_early_look_is_a_part_of_its_period(bench: Bench) -> None:
    bench.full()
    writing(bench, set(), {1, 2}, {2, 3}, {4}, {9})
    bench.page_sender.looks = [-1, 1000, -1]
    watching = Watching()
    this = bench.rounds.send(order(), watching)
    (told,) = watching.told
    assert sizes([told]) == [(3, 3, 1000)]
    assert told.early_bytes == 2 * PAGE_SIZE
    assert 0 < told.early_share < 1
    # A round that ends behind an early look has lost nothing, and owes nothing to the next one.
    assert bench.rounds.acknowledged(this, 1.0).dirty_pages_after == 5
    bench.page_sender.looks = [500]
    bench.rounds.send(order(), watching)
    assert bench.page_sender.sent[-1] == [1, 2, 3, 4, 9]
    assert sizes(watching.told[1:]) == [(0, 0, 500)]


def test_a_look_may_throttle(bench: Bench) -> None:
    bench.page_sender.looks = [1, 1, 1]
    this = bench.rounds.send(order(0.25), Watching(0.5, 0.75))
    assert [call for call in bench.calls if call[0] == "throttle"] == [
        ("throttle", 0.25),
        ("throttle", 0.5),
        ("throttle", 0.75),
    ]
    assert this.throttle == 0.75
    events = [each.fields for each in bench.timeline.events if each.event == "throttle"]
    assert [each["share"] for each in events] == [0.25, 0.5, 0.75]
    assert events[-1]["why"] == "because"
    stats = bench.rounds.acknowledged(this, 1.0)
    assert 0.25 <= stats.throttle <= 0.75


def test_an_average_over_time(bench: Bench) -> None:
    throttling = bench.rounds.throttling
    now = time.monotonic_ns()
    assert throttling.average(now - 10, now) == 0
    throttling._changes = [(0, 0.0), (100, 0.5), (300, 0.9)]
    assert throttling.average(0, 100) == 0
    assert throttling.average(50, 150) == pytest.approx(0.25)
    assert throttling.average(200, 400) == pytest.approx(0.7)
    assert throttling.peak == throttling.share == 0.9


def test_the_first_round_says_how_pages_gather(bench: Bench) -> None:
    bench.page_sender.looks = [1, 1]
    bench.guest.log = {1}
    bench.rounds.send(NextRound(RoundKind.FULL, drain=False, hold=False, reason=""), Watching())
    growth = bench.rounds.throttling.growth
    assert [pages for _, pages in growth] == [0, 0]
    bench.rounds.send(order(), Watching())
    assert len(growth) == 2
