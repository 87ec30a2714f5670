"""Guests of a host, and how their evacuation is planned."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import UsageError
from pageferry.sim.fleet import GuestKind, draw, everyone, read_fleet
from pageferry.sim.link import SimulatedLink
from pageferry.sim.planning import ABOUT, Evacuation, best_plan

FLEET = """
[[guest]]
memory = "1GiB"
count = 3
[[guest]]
name = "database"
memory = "2GiB"
workload = "zipf:rate=40MB/s,lines=8"
downtime-limit = "30ms"
vcpus = 2
"""


def evacuation(guests: list[GuestKind], **options: object) -> Evacuation:
    base = MigrationConfig()
    return Evacuation(guests, base, SimulatedLink(rate=125e6), math.inf, **options)  # type: ignore[arg-type]


def some(count: int, seed: int) -> list[GuestKind]:
    """Of a few kinds, so that a plan takes no time: easy ones, and some that never converge."""
    loads = ["idle", "uniform:rate=20MB/s", "memory-intensive:rate=200MB/s"]
    sizes = ["1GiB", "2GiB", "4GiB"]
    kinds = [
        GuestKind.model_validate({"memory": size, "workload": load, "downtime-limit": "100ms"})
        for size, load in zip(sizes, loads, strict=True)
    ]
    return draw(count, seed, kinds)


class TestFile:
    def test_as_it_is_written(self, tmp_path: Path) -> None:
        file = tmp_path / "fleet.toml"
        file.write_text(FLEET)
        kinds = read_fleet(file)
        assert [kind.label for kind in everyone(kinds)] == ["idle"] * 3 + ["database"]
        config = kinds[1].config(MigrationConfig())
        assert (config.memory, config.vcpus, config.downtime_limit) == (2**31, 2, 0.03)
        assert kinds[0].config(MigrationConfig(downtime_limit=1.0)).downtime_limit == 1.0

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "expected tables"),
            ("guest = 3", "expected tables"),
            ('[[guest]]\nmemory = "1GiB"\n[other]', "nothing else"),
            ("[[guest]]", "guest 1: memory"),
            ('[[guest]]\nmemory = "lots"', "guest 1: memory: 'lots'"),
            ('[[guest]]\nmemory = "1GiB"\ncount = 0', "guest 1: count"),
            ('[[guest]]\nmemory = "1GiB"\ncolour = "red"', "guest 1: colour"),
            ('[[guest]]\nmemory = "1GiB"\ncount = 1000000\n' * 2, "more than 1,000,000"),
            ("[[guest", "not TOML"),
        ],
    )
    def test_what_is_wrong_with_it(self, text: str, words: str, tmp_path: Path) -> None:
        file = tmp_path / "fleet.toml"
        file.write_text(text)
        with pytest.raises(UsageError, match=r"--fleet.*fleet\.toml") as error:
            read_fleet(file)
        assert words in str(error.value)
        assert "\n" not in str(error.value).strip()

    def test_it_has_to_be_there(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="can't be read"):
            read_fleet(tmp_path / "none.toml")

    def test_a_guest_that_cannot_be(self) -> None:
        kind = GuestKind.model_validate({"memory": 4096 * 1001, "vcpus": 64})
        with pytest.raises(UsageError, match="guest 'idle': memory"):
            kind.config(MigrationConfig())


def test_a_draw_is_its_seeds() -> None:
    assert draw(50, 7) == draw(50, 7) != draw(50, 8)
    sizes = [kind.memory for kind in draw(4000, 1)]
    assert sizes.count(2**31) / 4000 == pytest.approx(0.3, abs=0.03)
    few = [GuestKind(memory=2**30, count=3), GuestKind(memory=2**31)]
    drawn = draw(4000, 1, few)
    assert drawn.count(few[0]) / 4000 == pytest.approx(0.75, abs=0.03)


class TestPlans:
    def test_no_plan_beats_what_has_to_travel(self) -> None:
        moving = evacuation(some(40, 3))
        plans, least = list(moving.plans()), moving.least_s()
        for plan in plans:
            assert plan.total_s >= least
            assert len(plan.spans) == len(plan.choices) == 40
            assert plan.bytes / 125e6 <= plan.total_s * (1 + 1e-9)

    def test_a_limit_of_each_migration_is_said_and_reckoned_with(self) -> None:
        guests = [GuestKind(memory=2**28)] * 2 + [GuestKind(memory=2**30)]
        base = MigrationConfig(workload="idle")
        slow, fast, free = (
            Evacuation(guests, base, SimulatedLink(rate=125e6), most_Bps, "pre-copy")
            for most_Bps in (1e7, 1e9, math.inf)
        )
        plan = best_plan(list(slow.plans()))
        assert 2**30 / 1e7 < slow.least_s() <= plan.total_s
        bounds = [each.bound(best_plan(list(each.plans()))) for each in (slow, fast, free)]
        assert [bound and bound.by for bound in bounds] == ["max-bandwidth", "link", None]

    def test_orders_and_slots_are_all_tried(self) -> None:
        plans = list(evacuation(some(9, 3)).plans())
        assert {plan.slots for plan in plans} == {1, 2, 4, 8}
        assert len({plan.order for plan in plans}) * 4 == len(plans)
        assert {plan.slots for plan in evacuation(some(1, 3)).plans()} == {1}

    def test_shortest_first_frees_most_guests_soon(self) -> None:
        plans = [plan for plan in evacuation(some(30, 3)).plans() if plan.slots == 1]
        means = {plan.order: plan.mean_s for plan in plans}
        assert min(means, key=lambda name: means[name]) == "shortest first"
        assert max(means, key=lambda name: means[name]) == "longest first"

    def test_the_best_one_keeps_limits_first_and_guests_whole_then(self) -> None:
        plans = list(evacuation(some(60, 5)).plans())
        chosen = best_plan(plans)
        assert chosen.over == min(plan.over for plan in plans)
        fast = [p for p in plans if p.over == chosen.over]
        least = min(plan.total_s for plan in fast)
        assert chosen.total_s <= least * (1 + ABOUT)
        for plan in fast:
            assert plan.switched >= chosen.switched or plan.total_s > least * (1 + ABOUT)

    def test_a_guest_stays_whole_where_that_keeps_its_limit(self) -> None:
        easy = GuestKind(memory=2**30)
        hard = GuestKind.model_validate(
            {"memory": "1GiB", "workload": "memory-intensive", "downtime-limit": "100ms"}
        )
        plan = next(iter(evacuation([easy, hard]).plans()))
        assert plan.choices[0].strategy == "pre-copy"
        assert not plan.choices[0].switches
        assert plan.choices[1].switches
        assert plan.choices[1].strategy == "post-copy"  # three-path would only come to it later
        assert plan.over == 0

    def test_a_strategy_that_is_asked_for_is_taken(self) -> None:
        plans = list(evacuation(some(5, 1), strategy="stop-and-copy").plans())
        assert {choice.strategy for choice in plans[0].choices} == {"stop-and-copy"}
        assert plans[0].over == 5

    def test_no_transfer_is_faster_than_a_connection(self) -> None:
        slow = Evacuation(
            [GuestKind(memory=2**30)] * 2,
            MigrationConfig(),
            SimulatedLink(rate=1e9, delay=0.1),
            math.inf,
        )
        carries = slow.link.carries("cubic")
        for plan in slow.plans():
            assert plan.total_s >= 2 / plan.slots * 2**30 / carries
