"""Looks in, figures out: what strategies are expected to cost, and which one is spoken for."""

from __future__ import annotations

import dataclasses
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pageferry.common.config.model import MigrationConfig
from pageferry.common.strategy import REGISTRY, PreCopy
from pageferry.common.strategy.forecast import Cost, play_strategy
from pageferry.common.strategy.prediction import (
    STRATEGIES,
    Forecast,
    LinkEstimate,
    Look,
    Measurement,
    choose_strategy,
    conditions,
    forecasts,
    with_strategy,
)

PAGES = 1000
PAGE = 4104
FULL = PAGES * 4096
TIMES = [2.0 ** (k - 7) for k in range(8)]  # 8 ms to a second
LINK = LinkEstimate(
    rate_Bps=FULL,  # all of memory takes a second
    page_bytes=PAGE,
    frame_bytes=0,
    frame_pages=256,
    burst_bytes=0.0,
    burst_s=0.0,
    round_s=0.0,
    decide_s=0.0,
    switchover_s=0.25,
)


def look(seconds: float, pages: float, cached: float = 0.0) -> Look:
    size = round(pages * PAGE)
    share = round(size * cached)
    return Look(seconds, round(pages), round(pages), size, size - share, share)


def measured(*looks: Look, zero_pages: int = 0) -> Measurement:
    return Measurement(PAGES, zero_pages, looks, 0.0, 1000.0, 990.0)


def straight(pages_a_second: float) -> Measurement:
    return measured(*(look(t, min(pages_a_second * t, PAGES)) for t in TIMES))


def costs(guest: Measurement, link: LinkEstimate = LINK, **given: object) -> dict[str, Cost]:
    config = MigrationConfig.model_validate(given)
    return {each.strategy: each.cost for each in forecasts(config, conditions(guest, link))}


class TestByHand:
    def test_every_strategy_is_predicted(self) -> None:
        assert set(STRATEGIES) == set(REGISTRY)
        assert tuple(costs(straight(500))) == STRATEGIES

    def test_one_pass_costs_what_it_does_by_hand(self) -> None:
        found = costs(straight(500))
        assert found["stop-and-copy"].downtime_s == pytest.approx(1.25)
        assert found["post-copy"].downtime_s == pytest.approx(0.25)
        assert found["post-copy"].total_s == pytest.approx(1.25)
        assert found["post-copy"].switched
        assert not found["stop-and-copy"].switched

    def test_pre_copy_halves_what_is_left(self) -> None:
        cost = costs(straight(500), max_rounds=2, downtime_limit=0.001)["pre-copy"]
        # 1 s, then 0.5, then 0.25; an eighth of memory is left.
        assert cost.downtime_s == pytest.approx(0.125 + 0.25, rel=0.01)
        assert cost.total_s == pytest.approx(1.75 + 0.375, rel=0.01)
        assert cost.rounds == 4

    def test_the_path_is_the_one_that_the_ratio_leads_to(self) -> None:
        assert costs(straight(50))["three-path"].path == 1
        assert costs(straight(300))["three-path"].path == 2
        assert costs(straight(700))["three-path"].path == 3

    def test_the_strategies_are_the_ones_that_decide(self) -> None:
        config = MigrationConfig(downtime_limit=0.1)
        under = conditions(straight(300), LINK)
        wanted = play_strategy(PreCopy(config), under)
        assert forecasts(config, under)[STRATEGIES.index("pre-copy")].cost == wanted

    def test_zero_pages_are_marks(self) -> None:
        guest = dataclasses.replace(straight(0), zero_pages=PAGES // 2)
        assert costs(guest)["stop-and-copy"].bytes == FULL // 2

    def test_a_drain_lengthens_rounds_and_stops_and_no_switch(self) -> None:
        guest = dataclasses.replace(straight(0), drain_s=0.125)
        found = costs(guest, downtime_limit=1.0)
        assert found["pre-copy"].downtime_s == pytest.approx(0.25 + 0.125)
        assert found["pre-copy"].total_s == pytest.approx(1.125 + 0.25 + 0.125)
        assert found["post-copy"].downtime_s == pytest.approx(0.25)

    def test_looking_takes_as_long_when_a_round_ends(self) -> None:
        looks = [dataclasses.replace(look(t, 0), look_s=0.25) for t in TIMES]
        cost = costs(measured(*looks), downtime_limit=1.0)["pre-copy"]
        assert cost.total_s == pytest.approx(1 + 0.25 + 0.25)

    def test_frames_cost_something(self) -> None:
        link = dataclasses.replace(LINK, frame_bytes=100)
        assert costs(straight(0), link)["stop-and-copy"].bytes == FULL + 400

    def test_a_switch_after_rounds_discards_old_copies(self) -> None:
        link = dataclasses.replace(LINK, discard_page_s=0.001)
        found = costs(straight(700), link)
        assert found["three-path"].downtime_s == pytest.approx(0.25 + 0.7, rel=0.01)
        assert found["post-copy"].downtime_s == pytest.approx(0.25)

    def test_what_the_cache_holds_does_not_go_without_a_drain(self) -> None:
        """Path 2's held round: all that is stale is in the cache, and goes in the stop only."""
        held = measured(*(look(t, 300 * t, cached=1.0) for t in TIMES))
        options: dict[str, Any] = {"high": 1.0, "max_rounds": 0, "path3": "stop-and-copy"}
        assert costs(held, **options)["three-path"].bytes == pytest.approx(1.3 * FULL, rel=0.01)
        assert costs(straight(300), **options)["three-path"].bytes > 1.35 * FULL

    def test_auto_converge_is_played_too(self) -> None:
        guest = measured(*(look(t, min(4000 * t, PAGES)) for t in TIMES))
        plain = costs(guest)["pre-copy"]
        slowed = costs(guest, auto_converge=True)["pre-copy"]
        assert slowed.downtime_s < plain.downtime_s / 2

    def test_lazy_copy_ends_with_the_guest(self) -> None:
        config = MigrationConfig(run_after=3.0)
        lazy = forecasts(config, conditions(straight(100), LINK))[STRATEGIES.index("lazy-copy")]
        assert not lazy.ends
        assert lazy.cost.total_s == pytest.approx(3.25)
        assert lazy.cost.bytes == pytest.approx(300 * PAGE, rel=0.05)

    def test_a_guest_that_nobody_looked_at(self) -> None:
        guest = measured()
        assert (guest.seconds, guest.dirty_rate) == (0, 0)
        assert costs(guest)["pre-copy"].bytes == FULL

    def test_the_dirty_rate_counts_pages_once(self) -> None:
        assert straight(500).dirty_rate == 500 * 4096


rises = st.lists(st.integers(0, 400), min_size=len(TIMES), max_size=len(TIMES))
rates = st.floats(1e4, 1e9)


def guest_of(fresh: list[int]) -> Measurement:
    gathered = accumulate(fresh)
    return measured(*(look(t, n, 0.3) for t, n in zip(TIMES, gathered, strict=False)))


# A throttled guest is looked at up to a thousand times a round.
@settings(max_examples=25)
@given(rises, rates, st.floats(0, 1e5), st.booleans(), st.floats(0.01, 2.0))
def test_nothing_is_faster_than_its_bytes(
    fresh: list[int], rate: float, burst: float, converge: bool, limit: float
) -> None:
    link = dataclasses.replace(LINK, rate_Bps=rate, burst_bytes=burst)
    config = MigrationConfig(auto_converge=converge, downtime_limit=limit)
    for each in forecasts(config, conditions(guest_of(fresh), link)):
        if each.ends:
            assert each.cost.total_s >= (each.cost.bytes - burst) / rate * (1 - 1e-6) - 1e-6
            assert each.cost.bytes >= FULL
        assert each.cost.total_s >= each.cost.downtime_s >= LINK.switchover_s


@settings(max_examples=25)
@given(rises, rates, st.floats(1.0, 100.0))
def test_a_faster_link_never_makes_one_pass_longer(
    fresh: list[int], rate: float, factor: float
) -> None:
    slow = costs(guest_of(fresh), dataclasses.replace(LINK, rate_Bps=rate))
    fast = costs(guest_of(fresh), dataclasses.replace(LINK, rate_Bps=rate * factor))
    for name in ("stop-and-copy", "post-copy"):
        assert fast[name].total_s <= slow[name].total_s


@given(rises, st.floats(0.001, 1000.0))
def test_a_guest_that_dirties_twice_as_much_leaves_twice_as_much(
    fresh: list[int], seconds: float
) -> None:
    roomy = dataclasses.replace(guest_of([]), pages_total=10**9)
    calm, busy = (
        dataclasses.replace(roomy, looks=guest_of([n * each for each in fresh]).looks)
        for n in (1, 2)
    )
    once, twice = (conditions(each, LINK).stale(seconds).pages for each in (calm, busy))
    assert once * (1 - 1e-6) <= twice <= 2 * once * (1 + 1e-6) + 1e-6


# -- choosing -------------------------------------------------------------------------------------


def forecast(
    name: str, total_s: float, downtime_s: float, *, switched: bool = False, ends: bool = True
) -> Forecast:
    return Forecast(name, Cost(downtime_s, total_s, FULL, 1, None, switched), ends)


CHOICES = {
    "the first to be over": (
        [forecast("a", 10, 0.2), forecast("b", 8, 0.29), forecast("c", 5, 0.4)],
        "b",
        "of the 2 that are expected to hold the downtime limit of 300ms it is over first",
    ),
    "a limit that is met is held": ([forecast("a", 10, 0.2), forecast("b", 8, 0.3)], "b", "first"),
    "as good: no waiting for pages": (
        [forecast("a", 10, 0.01, switched=True), forecast("b", 10.4, 0.2)],
        "b",
        "never has the guest wait for pages",
    ),
    "not as good": (
        [forecast("a", 10, 0.01, switched=True), forecast("b", 10.6, 0.2)],
        "a",
        "over first",
    ),
    "as good: the least downtime": (
        [forecast("a", 10, 0.02), forecast("b", 10.4, 0.01)],
        "b",
        "least downtime, 10 ms",
    ),
    "none holds it": (
        [forecast("a", 5, 0.5), forecast("b", 50, 0.4)],
        "b",
        "none is expected to hold the downtime limit of 300ms; it has the least downtime, 400 ms",
    ),
    "one that never ends is no choice": (
        [forecast("a", 10, 0.2), forecast("b", 1, 0.001, ends=False)],
        "a",
        "over first",
    ),
}


@pytest.mark.parametrize("name", CHOICES)
def test_the_fastest_within_the_limit_is_chosen_with_its_reason(name: str) -> None:
    expected, strategy, why = CHOICES[name]
    choice = choose_strategy(expected, 0.3)
    assert choice.strategy == strategy
    assert why in choice.why


def test_thresholds_stay_with_another_strategy() -> None:
    config = MigrationConfig(low=0.2, max_rounds=3)
    other = with_strategy(config, "hybrid")
    assert (other.strategy, other.low, other.max_rounds) == ("hybrid", 0.2, 3)
