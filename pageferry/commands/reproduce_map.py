"""`pageferry reproduce --map` and `--ablate`: where the cache pays, what each mechanism does."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from pageferry.common.command_line.libraries import require_library
from pageferry.common.command_line.run import OutputOptions
from pageferry.common.errors import EXIT_CANCELLED
from pageferry.common.files.report_files import ReportFiles
from pageferry.common.process.notices import print_error
from pageferry.common.process.status import StatusPipe
from pageferry.paper import ablation
from pageferry.paper.ablation import Ablation, Switches
from pageferry.paper.locality import data
from pageferry.paper.locality.data import MapDocument, Place, places_of
from pageferry.paper.locality.measure import (
    condensed,
    figures_of,
    make_map,
    map_grid,
    measured_rows,
)
from pageferry.paper.locality.picture import draw_map
from pageferry.paper.locality.points import QUICK, SEEDS, Point, Way, config_of, measured_points
from pageferry.paper.locality.points import read_points as points_with_reads
from pageferry.paper.locality.sentences import claim_sentence, mechanism_sentence, path2_sentence
from pageferry.paper.locality.view import ablation_sheets, map_notes, map_sheets
from pageferry.paper.machine import describe_machine
from pageferry.runs import tables
from pageferry.runs.document import SeriesDocument, SheetDocument, render_series
from pageferry.runs.series import Case, Series, Signals, run_series

QUICK_PLACE_S: Final = 3.0  # of a migration at a place of the map, about
MAP_FILE: Final = "locality-map.json"  # in the folder of the cells


class MapResult(BaseModel):
    """What `reproduce --map --json` writes.

    Attributes:
        schema_version: Of this document.
        map: The map's data.
        places: The measured places: paths and ratios.
        sentences: What the map says.
    """

    schema_version: int = 1
    map: dict[str, Any]
    places: list[dict[str, Any]]
    sentences: list[str]


def reproduce_map(
    folder: Path,
    output: OutputOptions,
    pipe: StatusPipe | None,
    points: Sequence[Point] | None = None,
) -> int:
    """Measure the map into a folder, print it, and write it there as data.

    Args:
        folder: Of the cells; what has finished there is not run again.
        output: Where results and progress go.
        pipe: Of a supervisor; None without one.
        points: The places; None: all that the map has.

    Returns:
        The exit code: 130 after Ctrl-C, else the worst of the cells'.

    Raises:
        UsageError: The folder or a file can't be written.
    """
    from pageferry.sweeps.grid import exit_code, run_grid
    from pageferry.sweeps.progress import SweepView

    require_library("pageferry reproduce --map", "pyarrow")
    grid = map_grid(folder, points)
    with ReportFiles(output) as files:
        records, interrupted = run_grid(
            grid,
            lambda todo, done: SweepView(todo, done, wish=output.wish, pipe=pipe),
            retry_failed=True,
            scheduler=None,
            log_dir=output.log_dir,
            say=print_error,
        )
        if interrupted:
            finished = f"{len(records)} of {len(grid.cells)} migrations have finished"
            print_error(f"cancelled: {finished}; the same command goes on from there")
            return EXIT_CANCELLED
        places = [*measured_points(), *points_with_reads()] if points is None else points
        found = make_map(measured_rows(grid.cells, records, places))
        (folder / MAP_FILE).write_text(found.to_json(), "utf-8")
        _show_map(found, files, table=output.json_file != "-")
    return exit_code(records)


def _show_map(found: MapDocument, files: ReportFiles, *, table: bool) -> None:
    measured = places_of(found.measured)
    said = [claim_sentence(measured), path2_sentence(measured)]
    sheets = [*map_sheets(measured), *map_sheets(places_of(found.measured, reads=True))]
    notes = map_notes(found)
    if table:
        _print(sheets, [*said, *notes])
    document = MapResult(
        map=found.model_dump(mode="json"), places=data.to_json(measured), sentences=said
    )

    def page() -> str:
        from pageferry.common.html import render

        return render(
            [],
            title="Where the cache pays",
            labels=[],
            tables=[sheet.to_html() for sheet in sheets],
            notes=[*said, *notes],
            pictures=[draw_map(places_of(found.simulated), measured)],
        )

    files.write(lambda: document.model_dump_json(indent=2) + "\n", page)


def _print(sheets: Sequence[tables.Sheet], notes: Sequence[str]) -> None:
    console = tables.wide_console()
    for sheet in sheets:
        sheet.print(console)
    tables.print_notes(console, notes)


# -- a few places, as `--quick` measures them ------------------------------------------------------


def quick_cases() -> list[Case]:
    """List the migrations of the places that `--quick` measures: each in every way.

    Returns:
        Cases, in the order in which `quick_places` takes them.
    """
    return [
        Case(
            f"map, {point.workload.partition(':')[2]}, {way.value}", config_of(point, way, SEEDS[0])
        )
        for point in QUICK
        for way in Way
    ]


def quick_places(done: Series, first: int) -> list[Place]:
    """Make places of what a series has run.

    Args:
        done: The series; interrupted, perhaps.
        first: The index of the first of `quick_cases` in it.

    Returns:
        The places all of whose ways have completed.
    """
    rows = []
    keys = [(point, way) for point in QUICK for way in Way]
    for index, (point, way) in enumerate(keys, first):
        runs = [each.report for each in done.of_case(index) if each.completed and each.report]
        if runs:
            rows.append(condensed(point, way, [figures_of(report) for report in runs]))
    return places_of(rows)


# -- ablation --------------------------------------------------------------------------------------


class AblationResult(SeriesDocument):
    """What `reproduce --ablate --json` writes.

    Attributes:
        ablation: The values of all combinations, one for each seed.
        effects: What single switches, pairs and all three save, by figure.
        predicted: By figure: of each seed, what the other seeds' effects give for its saving as a
            share of the whole, and what was measured.
    """

    ablation: dict[str, Any]
    effects: dict[str, Any]
    predicted: dict[str, list[tuple[float, float]]]


def reproduce_ablation(output: OutputOptions, pipe: StatusPipe | None) -> int:
    """Run every combination of the three mechanisms with four seeds, and print what each does.

    Args:
        output: Where results and progress go.
        pipe: Of a supervisor; None without one.

    Returns:
        The exit code: 130 after Ctrl-C, else that of the worst run.

    Raises:
        UsageError: There is no room for the guests, or a file can't be written.
    """
    chosen = [(on, seed) for seed in ablation.SEEDS for on in ablation.distinct()]
    cases = [
        Case(f"{ablation.label(on)}, seed {seed}", ablation.config_for(on, seed))
        for on, seed in chosen
    ]
    with Signals() as signals, ReportFiles(output) as files:
        if not output.quiet:
            print(f"{len(cases)} runs, about 3 minutes", file=sys.stderr, flush=True)
        done = run_series(cases, 1, output, signals, pipe)
        found = _ablation(done, chosen)
        if found is not None:
            _show_ablation(done, found, files, table=output.json_file != "-")
    if done.interrupted:
        print_error(done.interruption if found else "cancelled: not all combinations have run")
    return done.exit_code


def _ablation(done: Series, chosen: Sequence[tuple[Switches, int]]) -> Ablation | None:
    """Put the figures of all combinations together; None where one is missing."""
    values: dict[Switches, dict[str, list[float]]] = {}
    for index, (on, _) in enumerate(chosen):
        runs = [each.report for each in done.of_case(index) if each.completed and each.report]
        if not runs:
            return None
        figures = figures_of(runs[0])
        for name in ablation.FIGURES:
            values.setdefault(on, {}).setdefault(name, []).append(getattr(figures, name))
    return Ablation(
        made=datetime.now(UTC).date().isoformat(),
        machine=describe_machine(),
        workload=ablation.GUEST.workload,
        runs=tuple(
            (tuple(sorted(on)), {name: tuple(each) for name, each in figures.items()})
            for on, figures in values.items()
        ),
    )


def _show_ablation(done: Series, found: Ablation, files: ReportFiles, *, table: bool) -> None:
    effects = ablation.effects(found)
    sheets = ablation_sheets(found, effects)
    notes = [mechanism_sentence(effects), *ablation.notes(found)]
    if table:
        _print(sheets, notes)
    document = AblationResult(
        runs=done.reports,
        table=[],
        interrupted=done.interrupted,
        sheets=[SheetDocument(**sheet.to_html()) for sheet in sheets],
        notes=notes,
        ablation=found.model_dump(mode="json"),
        effects=ablation.to_json(effects),
        predicted=ablation.predictions(found),
    )
    title = "pageferry reproduce --ablate"
    files.write(
        document.to_json, lambda: render_series(document, title, done.labels, done.case_labels)
    )
