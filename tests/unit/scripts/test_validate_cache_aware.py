"""Judging cache-aware on real memory: what is promised, and what measuring it allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.validate_cache_aware import POINTS, RUNS, STRATEGIES, Medians, grid, is_whole, judge


def test_thirty_points_each_by_each_strategy_with_each_seed(tmp_path: Path) -> None:
    assert len(set(POINTS)) == 30
    made = grid(tmp_path)
    assert len(made.cells) == 30 * len(STRATEGIES) * RUNS
    assert len({cell.key for cell in made.cells}) == len(made.cells)
    assert {cell.config.path3 for cell in made.cells} == {"stop-and-copy"}
    assert not list(tmp_path.iterdir())


# Limit: 100 ms. Downtime, total time and loss of pre-copy, three-path and cache-aware.
@pytest.mark.parametrize(
    ("pre_copy", "three_path", "ours", "missed"),
    [
        ((90, 2000, 0.05), (50, 1500, 0.05), (104, 1574, 0.059), None),
        ((90, 2000, 0.05), (50, 1500, 0.05), (106, 1500, 0.05), "limit"),
        ((90, 2000, 0.05), (50, 1500, 0.05), (60, 1600, 0.05), "total time"),
        ((90, 2000, 0.05), (50, 1500, 0.05), (60, 1500, 0.061), "loss"),
        # Three-path misses the limit: that it is sooner does not count.
        ((90, 2000, 0.05), (150, 1500, 0.05), (60, 2050, 0.05), None),
        # Neither keeps it: the lesser downtime counts, and the loss beside it.
        ((400, 2000, 0.05), (200, 1500, 0.05), (209, 9000, 0.06), None),
        ((400, 2000, 0.05), (200, 1500, 0.05), (209, 9000, 0.07), "loss"),
        ((400, 2000, 0.05), (200, 1500, 0.05), (211, 1500, 0.05), "downtime"),
        ((4, 10, 0.05), (3, 10, 0.05), (4, 11.9, 0.05), None),
    ],
)
def test_judgement(
    pre_copy: tuple[float, ...],
    three_path: tuple[float, ...],
    ours: tuple[float, ...],
    missed: str | None,
) -> None:
    rows = {
        name: Medians(downtime, total, lost, RUNS, RUNS)
        for name, (downtime, total, lost) in zip(
            STRATEGIES, (pre_copy, three_path, ours), strict=True
        )
    }
    found = judge(POINTS[0], 100.0, rows)
    assert found.missed == missed
    assert is_whole(found)
    rows["pre-copy"] = rows["pre-copy"]._replace(verified=RUNS - 1)
    assert not is_whole(judge(POINTS[0], 100.0, rows))
