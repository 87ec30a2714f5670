"""Making the map: all places in virtual time, and some on real memory, as a sweep that resumes."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from pageferry.common.config.model import MigrationConfig, value_words
from pageferry.common.report.schema import Report
from pageferry.paper.locality.data import MapDocument, PlaceRow
from pageferry.paper.locality.points import (
    SEEDS,
    WAYS,
    Point,
    Way,
    config_of,
    every_point,
    read_points,
)
from pageferry.paper.machine import describe_machine, today
from pageferry.sim.conditions import simulated_conditions
from pageferry.sim.link import SimulatedLink
from pageferry.sim.reporting import play
from pageferry.sweeps.cells import Cell
from pageferry.sweeps.grid import Grid, grid_of
from pageferry.sweeps.ledger import Record
from pageferry.sweeps.plan import SweepPlan

NAME: Final = "locality-map"
_MOST_CELLS: Final = 5000


def simulated_rows(points: Iterable[Point]) -> list[PlaceRow]:
    """Play every way of moving the guest at places, in virtual time.

    Args:
        points: The places.

    Returns:
        A row for each place and way.
    """
    return [_simulated(point, way) for point in points for way in Way]


def _simulated(point: Point, way: Way) -> PlaceRow:
    config = config_of(point, way, SEEDS[0])
    cost = play(config, simulated_conditions(config, SimulatedLink()), faults=False).cost
    downtime_ms, total_ms = cost.downtime_s * 1e3, cost.total_s * 1e3
    return PlaceRow(
        *point, way.value, round(downtime_ms, 3), round(total_ms, 2), cost.bytes, cost.path,
        cost.rounds,
    )  # fmt: skip


def map_plan(points: Sequence[Point]) -> SweepPlan:
    """Make the plan of a sweep over places: each way of moving the guest, with each seed.

    Args:
        points: The places.

    Returns:
        The plan.
    """
    base = config_of(points[0], Way.CACHED, SEEDS[0])
    varying = {"workload", "seed", *(name for way in WAYS.values() for name in way)}
    options = {
        name.replace("_", "-"): value_words(name, getattr(base, name))
        for name in base.model_fields_set - varying
    }
    columns: dict[str, list[str]] = {}
    for way in Way:
        config = config_of(points[0], way, SEEDS[0])
        for name in ("strategy", "cache", "downtime_limit"):
            words = value_words(name, getattr(config, name))
            columns.setdefault(name.replace("_", "-"), []).append(words)
    return SweepPlan.model_validate(
        {
            "repeats": len(SEEDS),
            "max-cells": _MOST_CELLS,
            "options": options,
            "grid": {"workload": [point.workload for point in points]},
            "list": [columns],
        }
    )


def map_grid(folder: Path, points: Sequence[Point]) -> Grid:
    """Make the cells of the measured map.

    Args:
        folder: Where results go; what has finished there is not run again.
        points: The places.

    Returns:
        The cells. Nothing has been run or written.
    """
    return grid_of(map_plan(points), NAME, folder)


class RunFigures(NamedTuple):
    """What a row needs of one run.

    Attributes:
        downtime_ms: The downtime.
        total_ms: The total time.
        bytes: On the wire.
        path: Which path was taken; None without paths.
        rounds: How many, the final one counted.
        verified: Whether it was verified by replay.
    """

    downtime_ms: float
    total_ms: float
    bytes: int
    path: int | None
    rounds: int
    verified: bool


def figures_of(report: Report) -> RunFigures:
    """Take from a report what a row needs.

    Args:
        report: Of a migration that has completed.

    Returns:
        The figures.
    """
    return RunFigures(
        report.downtime_ms or 0.0,
        report.total_time_ms or 0.0,
        report.bytes_on_wire,
        report.path,
        len(report.rounds),
        report.verified is True,
    )


def measured_rows(
    cells: Iterable[Cell], records: Mapping[str, Record], points: Iterable[Point]
) -> list[PlaceRow]:
    """Condense what has been measured to a row for each place and way.

    Args:
        cells: Of the grid.
        records: Of those that have finished, by key.
        points: The places of the grid.

    Returns:
        Rows of medians, in the order of places; those that no migration has completed are missing.
    """
    by: dict[tuple[str, Way], list[RunFigures]] = {}
    for cell in cells:
        record = records.get(cell.key)
        if record is not None and record.outcome == "completed":
            key = str(cell.point["workload"]), _way_of(cell.config)
            by.setdefault(key, []).append(_recorded(record.results))
    return [
        condensed(point, way, by[point.workload, way])
        for point in points
        for way in Way
        if (point.workload, way) in by
    ]


def _recorded(results: Mapping[str, Any]) -> RunFigures:
    return RunFigures(
        results["downtime_ms"],
        results["total_time_ms"],
        results["bytes_on_wire"],
        results["path"],
        results["rounds"],
        results["verified"] is True,
    )


def _way_of(config: MigrationConfig) -> Way:
    if config.strategy == "pre-copy":
        return Way.PRE_COPY
    return Way.CACHED if config.cache else Way.UNCACHED


def condensed(point: Point, way: Way, runs: Sequence[RunFigures]) -> PlaceRow:
    """Make a row of the medians of several runs.

    Args:
        point: The place.
        way: How the guest was moved.
        runs: At least one.

    Returns:
        The row.
    """
    downtimes, totals = [run.downtime_ms for run in runs], [run.total_ms for run in runs]
    paths = [run.path for run in runs if run.path is not None]
    return PlaceRow(
        *point,
        way.value,
        round(statistics.median(downtimes), 3),
        round(statistics.median(totals), 2),
        round(statistics.median(run.bytes for run in runs)),
        statistics.mode(paths) if paths else None,
        round(statistics.median(run.rounds for run in runs)),
        len(runs),
        sum(run.verified for run in runs),
        round(max(downtimes) - min(downtimes), 3),
        round(max(totals) - min(totals), 2),
    )


def make_map(measured: Sequence[PlaceRow]) -> MapDocument:
    """Make the document of what was measured, with all places in virtual time beside it.

    Args:
        measured: Rows of real memory.

    Returns:
        The document, of today and of this machine.
    """
    simulated = simulated_rows([*every_point(), *read_points()])
    return MapDocument(
        made=today(),
        machine=describe_machine(),
        simulated=tuple(simulated),
        measured=tuple(measured),
    )
