"""Downtime against dirty rate over bandwidth."""

from __future__ import annotations

from pageferry.common.report.schema import Report
from pageferry.common.report.sections.rounds import DecisionReport
from pageferry.sweeps.cells import Cell
from pageferry.sweeps.curves import curves
from pageferry.sweeps.pictures import draw_sweep
from tests.support.plain_reports import report
from tests.support.sweep_tables import PLAN, query


def test_downtime_against_dirty_rate_over_bandwidth() -> None:
    (found,) = curves(query())
    points = {
        curve.name: [(ratio, spread.median) for ratio, spread in curve.points]
        for curve in found.curves
    }
    # Without a limit of bandwidth there is no ratio: half of the cells are not here.
    assert points == {
        "pre-copy": [(0.1, 4.0), (2.0, 80.0)],
        "stop-and-copy": [(0.1, 50.0), (2.0, 50.0)],
    }


def test_points_of_two_bandwidths_are_not_joined() -> None:
    text = PLAN.replace('"unlimited"', '"800MB/s"').replace('"4MB/s"', '"4MB/s", "1600MB/s"')
    (found,) = curves(query(text))
    lines = [(curve.name, curve.bandwidth_Bps) for curve in found.curves]
    assert sorted(lines) == sorted(
        (name, rate) for name in ("pre-copy", "stop-and-copy") for rate in (4e7, 8e8)
    )
    ratios = [[ratio for ratio, _ in curve.points] for curve in found.curves]
    assert sorted(map(tuple, ratios)) == [(0.005, 0.1, 2.0)] * 2 + [(0.1, 2.0, 40.0)] * 2
    made = draw_sweep([], [found], "x")[-1]
    assert made.figure is not None
    assert sum(trace["showlegend"] for trace in made.figure["data"]) == 2


def test_a_rate_that_was_not_asked_for_is_the_measured_one() -> None:
    text = PLAN.replace('workload.rate = ["4MB/s", "80MB/s"]', "")

    def become(cell: Cell) -> Report:
        decision = DecisionReport(after_round=1, dirty_rate=2e7, decision="x", reason="y")
        return report(strategy=cell.config.strategy, decisions=[decision])

    (found,) = curves(query(text, become))
    assert [ratio for curve in found.curves for ratio, _ in curve.points] == [0.5, 0.5]
