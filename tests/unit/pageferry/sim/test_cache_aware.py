"""What cache-aware promises beside pre-copy and three-path, at random points in virtual time.

Where one of them keeps the downtime limit, it does, too, with at most 1.03 of the least total among
those that do. Where neither does, its downtime is at most 1.03 of the lesser. The share of its
speed that the guest loses is at most a percentage point above that of the one it is compared with.

All strategies end by stop-and-copy. A strategy decides by an estimate, and some guests change
faster than any estimate: of a thousand points, some are a matter of chance. They are counted, and
may not become more: see `docs/strategies.md` for what they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest

from pageferry.common.strategy.forecast import Cost
from tests.support.random_guests import BURSTS, RandomPoint, random_point
from tests.support.tiers import FULL

POINTS = 10_000 if FULL else 400
TOTAL = DOWNTIME = 1.03
LOSS = 0.01
# Measured: 9 of 9,151 and 1 of 849. Bursts: a strategy may be lucky with the moment.
# With `--max-rounds 0`, 8 of 2,500: pre-copy stops whatever is expected of a stop, and is lucky.
FEW_ROUNDS_EXCEPTIONS = 0.0036
STEADY_EXCEPTIONS, BURST_EXCEPTIONS = 0.001, 0.002


def lost(cost: Cost) -> float:
    """The share of its speed that a guest loses: it stands still for its downtime."""
    return cost.downtime_s / cost.total_s


def exception(point: RandomPoint, **more: object) -> str | None:
    """Say what is not kept at a point; None where all is."""
    others = [point.play(name, **more).cost for name in ("pre-copy", "three-path")]
    ours = point.play("cache-aware", **more).cost
    keeping = [cost for cost in others if cost.downtime_s <= point.limit_s]
    if not keeping:
        least_s = min(cost.downtime_s for cost in others)
        if ours.downtime_s > DOWNTIME * least_s:
            return "downtime"
        # Of equal downtimes the sooner one counts: a round more makes the share less, and no more.
        equal = [cost for cost in others if cost.downtime_s <= DOWNTIME * least_s]
        best = min(equal, key=lambda cost: cost.total_s)
    else:
        best = min(keeping, key=lambda cost: cost.total_s)
        if ours.downtime_s > point.limit_s:
            return "limit"
        if ours.total_s > TOTAL * best.total_s:
            return "total"
    return "loss" if lost(ours) > lost(best) + LOSS else None


def exceptions(points: Iterable[RandomPoint]) -> tuple[Counter[bool], dict[int, str]]:
    counted: Counter[bool] = Counter()
    found: dict[int, str] = {}
    for point in points:
        bursts = point.workload in BURSTS
        counted[bursts] += 1
        what = exception(point)
        if what is not None:
            found[point.seed] = f"{what}{', bursts' if bursts else ''}"
    return counted, found


@pytest.mark.timeout(900)  # 30,000 plays, on a busy machine
def test_no_worse_than_the_better_of_both() -> None:
    counted, found = exceptions(random_point(seed) for seed in range(POINTS))
    bursts = sum("bursts" in what for what in found.values())
    print(f"{len(found)} exceptions of {counted}: {found}")
    # A sample is small: one more than the share of it may be found by chance.
    assert len(found) - bursts <= 1 + STEADY_EXCEPTIONS * counted[False], found
    assert bursts <= 1 + BURST_EXCEPTIONS * counted[True], found


@pytest.mark.parametrize("rounds", [0, 1])
def test_few_rounds_or_none(rounds: int) -> None:
    found = {
        seed: what
        for seed in range(POINTS // 4)
        if (what := exception(random_point(seed), max_rounds=rounds)) is not None
    }
    assert len(found) <= 1 + FEW_ROUNDS_EXCEPTIONS * POINTS / 4, found


def test_post_copy_only_where_rounds_are_used_up() -> None:
    for seed in range(POINTS // 20):
        point = random_point(seed)
        run = point.play("cache-aware", path3="post-copy")
        if run.cost.switched:
            drains = sum(each.order.kind == "drain" for each in run.rounds)
            assert drains >= point.options["max_rounds"], seed
            assert run.strategy.converged is False
        assert not point.play("cache-aware").cost.switched, seed
