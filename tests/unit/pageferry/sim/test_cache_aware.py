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

from pageferry.common.strategy.forecast import Cost
from tests.support.random_guests import BURSTS, RandomPoint, random_point
from tests.support.tiers import FULL

POINTS = 10_000 if FULL else 400
TOTAL = DOWNTIME = 1.03
LOSS = 0.01
# Measured: 9 of 9,151 and 1 of 849. Bursts: a strategy may be lucky with the moment.
STEADY_EXCEPTIONS, BURST_EXCEPTIONS = 0.001, 0.002


def lost(cost: Cost) -> float:
    """The share of its speed that a guest loses: it stands still for its downtime."""
    return cost.downtime_s / cost.total_s


def exception(point: RandomPoint) -> str | None:
    """Say what is not kept at a point; None where all is."""
    others = [point.play(name).cost for name in ("pre-copy", "three-path")]
    ours = point.play("cache-aware").cost
    keeping = [cost for cost in others if cost.downtime_s <= point.limit_s]
    if not keeping:
        least_s = min(cost.downtime_s for cost in others)
        return "downtime" if ours.downtime_s > DOWNTIME * least_s else None
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


def test_no_worse_than_the_better_of_both() -> None:
    counted, found = exceptions(random_point(seed) for seed in range(POINTS))
    bursts = sum("bursts" in what for what in found.values())
    print(f"{len(found)} exceptions of {counted}: {found}")
    # A sample is small: one more than the share of it may be found by chance.
    assert len(found) - bursts <= 1 + STEADY_EXCEPTIONS * counted[False], found
    assert bursts <= 1 + BURST_EXCEPTIONS * counted[True], found


def test_post_copy_only_where_rounds_are_used_up() -> None:
    for seed in range(POINTS // 20):
        point = random_point(seed)
        run = point.play("cache-aware", path3="post-copy")
        if run.cost.switched:
            drains = sum(each.order.kind == "drain" for each in run.rounds)
            assert drains >= point.options["max_rounds"], seed
            assert run.strategy.converged is False
        assert not point.play("cache-aware").cost.switched, seed
