"""`pageferry reproduce --map`: over which locality the cache pays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from pageferry.common.command_line.libraries import require_library
from pageferry.common.command_line.run import OutputOptions
from pageferry.common.errors import EXIT_CANCELLED
from pageferry.common.files.report_files import ReportFile, ReportFiles
from pageferry.common.process.notices import print_error
from pageferry.common.process.status import StatusPipe
from pageferry.paper.experiment import Setting
from pageferry.paper.locality import data
from pageferry.paper.locality.data import MapDocument, Place, places_of
from pageferry.paper.locality.measure import (
    condensed,
    figures_of,
    make_map,
    map_grid,
    measured_rows,
)
from pageferry.paper.locality.picture import map_pictures
from pageferry.paper.locality.points import QUICK, Point, Way, config_of, measured_points
from pageferry.paper.locality.view import document_sheets, map_notes
from pageferry.paper.shipped import shipped_ablation, three_sentences
from pageferry.runs import tables
from pageferry.runs.series import Case, Series

# What `--quick` measures, in the order in which it does.
_QUICK: Final = tuple((point, way) for point in QUICK for way in Way)
MAP_FILE: Final = "locality-map.json"  # in the folder of the cells


class MapResult(BaseModel):
    """What `reproduce --map --json` writes.

    Attributes:
        schema_version: Of this document.
        map: The map's data.
        places: The measured places: paths and ratios.
        sentences: What the map says, and the ablation that comes with this version.
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
    places = list(measured_points()) if points is None else list(points)
    grid = map_grid(folder, places)
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
        found = make_map(measured_rows(grid.cells, records, places))
        with ReportFile(str(folder / MAP_FILE), "--map", "the map", force=True) as file:
            file.write(found.to_json())
        _show_map(found, files, table=output.json_file != "-")
    return exit_code(records)


def _show_map(found: MapDocument, files: ReportFiles, *, table: bool) -> None:
    said = three_sentences(places_of(found.measured), shipped_ablation())
    sheets = document_sheets(found, whole=True)
    notes = map_notes(found)
    document = MapResult(
        map=found.model_dump(mode="json"),
        places=data.to_json(found.places),
        sentences=said,
    )

    def page() -> str:
        from pageferry.common.html import render

        return render(
            [],
            title="Where the cache pays",
            labels=[],
            tables=[sheet.to_html() for sheet in sheets],
            notes=[*said, *notes],
            pictures=map_pictures(found),
        )

    files.write(lambda: document.model_dump_json(indent=2) + "\n", page)
    if table:
        tables.print_sheets(sheets, lines=[*notes, *said])


# -- a few places, as `--quick` measures them ------------------------------------------------------


def quick_cases(setting: Setting) -> list[Case]:
    """List the migrations of the places that `--quick` measures: each in every way.

    Args:
        setting: Its seed is that of the guests, and it says whether they are verified.

    Returns:
        Cases, in the order in which `quick_places` takes them.
    """
    return [
        Case(
            f"map, {point.workload.partition(':')[2]}, {way.value}",
            config_of(point, way, setting.seed, verify=setting.verify),
        )
        for point, way in _QUICK
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
    for index, (point, way) in enumerate(_QUICK, first):
        if runs := done.completed_reports(index):
            rows.append(condensed(point, way, [figures_of(report) for report in runs]))
    return places_of(rows)
