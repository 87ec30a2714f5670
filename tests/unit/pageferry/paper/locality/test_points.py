"""The map's places, and the plan by which they are measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from pageferry.paper.locality.measure import (
    RunFigures,
    condensed,
    map_grid,
    measured_rows,
    simulated_rows,
)
from pageferry.paper.locality.points import (
    CACHE,
    LINES,
    MEASURED_RATES,
    MEASURED_REUSES,
    MEMORY,
    QUICK,
    RATES,
    REUSES,
    LINK_Bps,
    Point,
    Way,
    config_of,
    every_point,
    measured_points,
    read_points,
)


def test_there_are_as_many_places_as_the_axes_span() -> None:
    assert (len(LINES), len(REUSES), len(RATES)) == (7, 9, 5)
    assert len(set(every_point())) == 315
    measured = set(measured_points()) - set(read_points())
    assert len(measured) == 7 * len(MEASURED_REUSES) * len(MEASURED_RATES) >= 7 * 5 * 3
    assert measured <= set(every_point())
    assert set(QUICK) <= set(every_point())
    assert {point.reads for point in read_points()} == {0.5}


@pytest.mark.parametrize(
    "point", [*every_point(), *read_points()], ids=lambda point: point.workload
)
def test_a_guest_does_what_its_place_says(point: Point) -> None:
    config = config_of(point, Way.CACHED, 1)
    assert config.memory == MEMORY == 128 * 2**20
    assert config.cache == CACHE == 2**20
    assert config.max_bandwidth == LINK_Bps
    name, _, rest = config.workload.partition(":")
    options = dict(each.split("=") for each in rest.split(","))
    assert name == "uniform"
    assert options["lines"] == str(point.lines)
    assert ("write-share" in options) == (point.reads > 0)


def test_the_ways_differ_in_what_they_are_about_alone() -> None:
    point = QUICK[0]
    cached, uncached, plain = (
        config_of(point, way, 1).model_dump(exclude={"cache", "strategy", "downtime_limit"})
        for way in Way
    )
    assert cached == uncached == plain
    assert config_of(point, Way.UNCACHED, 1).strategy == "three-path"
    assert config_of(point, Way.PRE_COPY, 1).cache == config_of(point, Way.UNCACHED, 1).cache == 0


def test_the_plan_runs_each_place_in_each_way_with_three_seeds(tmp_path: Path) -> None:
    grid = map_grid(tmp_path, list(measured_points()))
    assert len(grid.cells) == (105 + 18) * 3 * 3
    points = {point.workload: point for point in measured_points()}
    for cell in grid.cells:
        point = points[cell.config.workload]
        ways = [
            way for way in Way if config_of(point, way, cell.config.seed) == cell.config.migration
        ]
        assert len(ways) == 1
    assert not list(tmp_path.iterdir())
    assert measured_rows(grid.cells, {}, points.values()) == []


def test_a_row_has_the_medians_of_its_runs() -> None:
    runs = [
        RunFigures(10.0, 1000.0, 100, 2, 5, verified=True),
        RunFigures(30.0, 1010.0, 300, 2, 7, verified=True),
        RunFigures(11.0, 1500.0, 110, 1, 6, verified=False),
    ]
    row = condensed(QUICK[1], Way.CACHED, runs)
    assert row.point == QUICK[1]
    assert (row.downtime_ms, row.total_ms, row.bytes, row.path, row.rounds) == (11, 1010, 110, 2, 6)
    assert (row.runs, row.verified) == (3, 2)
    assert (row.downtime_spread, row.total_spread) == (20, 500)


def test_in_virtual_time_each_way_has_a_row() -> None:
    rows = simulated_rows([Point(1, 32.0, 2.0), Point(64, 0.125, 0.1)])
    assert [(row.lines, row.way) for row in rows] == [
        (lines, way.value) for lines in (1, 64) for way in Way
    ]
    assert {row.path for row in rows if row.way == Way.PRE_COPY} == {None}
    assert rows[0].path == 2
    assert rows[0].bytes < 0.5 * rows[1].bytes  # a line in place of a page, round after round
