"""`pageferry sweep show`: tables and pictures of what a sweep has measured."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import Parameter
from pydantic import Field

from pageferry.common.command_line.options import Options
from pageferry.common.command_line.run import Force
from pageferry.common.errors import EXIT_OK, UsageError
from pageferry.common.files.report_files import ReportFile, refuse_stdout
from pageferry.common.process.notices import print_error
from pageferry.common.report.summary import LOST_SHARE, loss

if TYPE_CHECKING:
    from pageferry.runs.tables import Sheet
    from pageferry.sweeps.maps import Map
    from pageferry.sweeps.parquet import Results
    from pageferry.sweeps.query import Query, QueryResult
    from pageferry.sweeps.runners import Runner

_MOST_LISTED: Final = 10  # records that are damaged
_FIGURES: Final = ("downtime_ms", "total_time_ms", "bytes_on_wire", "guest_slowdown")
_HEADINGS: Final = ("downtime ms", "total ms", "wire", "guest's loss")
_LEGEND: Final = (
    "Medians, and below them the least and the greatest, of the runs that moved their guest whole."
    f" guest's loss: {LOST_SHARE}."
)
_SIMULATED: Final = (
    "Simulated: every figure is calculated in virtual time, no guest ran. The same cell gives the"
    f" same figures whenever it is run. guest's loss: {LOST_SHARE}."
)
_ONE_RUN: Final = (
    "Each combination was run once: what a run differs by from its next is not known, and a small"
    " difference may be chance. repeats = 3 in the plan would tell."
)
_ONE_GOOD_RUN: Final = (
    "Of no combination has more than one run moved its guest whole: what a run differs by from its"
    " next is not known, and a small difference may be chance."
)
_NO_RUN: Final = (
    "No run has moved its guest whole, so that there are no figures: cell_error in --sql says why."
)


class ShowOptions(Options):
    """What is shown, and where."""

    sql: Annotated[
        str | None,
        Parameter(allow_leading_hyphen=True),  # an SQL comment begins with one
        Field(description="ask this instead, of the table results: a row for each cell"),
    ] = None
    filter: Annotated[
        str | None,
        Field(
            description="only cells like this: OPTION=VALUE[|VALUE...],... as in strategy=hybrid"
        ),
    ] = None
    x: Annotated[str | None, Field(description="AXIS of the maps' columns")] = None
    y: Annotated[str | None, Field(description="AXIS of the maps' rows")] = None
    best_by: Annotated[
        str, Field(description="COLUMN of numbers whose least is the best, in the maps")
    ] = "downtime_ms"
    html: Annotated[
        str | None, Field(description="write one HTML page, with the pictures, to this FILE")
    ] = None
    csv_file: Annotated[
        str | None,
        Parameter(name="--csv", allow_leading_hyphen=True),
        Field(description="write the table as CSV to this FILE; -: standard output, nothing else"),
    ] = None
    force: Force = False


def show(
    results: Annotated[Path, Parameter(help="FOLDER of a sweep, or its results.parquet")],
    *,
    options: Annotated[ShowOptions | None, Parameter(name="*")] = None,
) -> int:
    """Show what a sweep has measured, also while it runs.

    A table of every combination, medians and spread over its repeats, and for every place on two of
    the axes the strategy that was best. With --sql, the answer to a question of your own.

    Args:
        results: A sweep's folder, or its Parquet file.
        options: What is shown; None is all defaults.

    Returns:
        The exit code.

    Raises:
        UsageError: There are no such results, or an option is wrong.
    """
    from pageferry.common.command_line.libraries import require_library
    from pageferry.sweeps.query import Query

    options = options or ShowOptions()
    require_library("pageferry sweep show", "pyarrow", "duckdb")
    if options.html is not None:
        refuse_stdout(options.html)
        if options.sql is not None:
            raise UsageError("--sql has a table for an answer, which --csv writes: not with --html")
        if options.csv_file == options.html:
            raise UsageError(f"--csv and --html both name {options.html}: expected two files")
    found, runner = load_results(results)
    query = Query(found, runner, _choice(options.filter, runner))
    if query.count == 0:
        why = f"of {found.table.num_rows} is like {options.filter}" if options.filter else "yet"
        raise UsageError(f"{results}: no cell {why}")
    return _Show(found, query, options).run()


def load_results(path: Path) -> tuple[Results, Runner]:
    """Load results: of a folder what has finished by now, of a file what is in it.

    Args:
        path: A sweep's folder, or a Parquet file that `sweep` has written.

    Returns:
        The results, and the runner of their cells. Damaged records are left out, with a complaint.

    Raises:
        UsageError: They can't be read.
    """
    from pageferry.sweeps.ledger import read_manifest, read_records
    from pageferry.sweeps.parquet import make_results, read_parquet
    from pageferry.sweeps.runners import runner_named

    if not path.is_dir():
        found = read_parquet(path)
        return found, runner_named(found.runner)
    manifest = read_manifest(path)
    runner = runner_named(manifest.runner)
    records, damaged = read_records(path, (cell.key for cell in manifest.cells), runner)
    for line in damaged[:_MOST_LISTED]:
        print_error(f"{line}: its cell is left out")
    return make_results(manifest, records, runner), runner


def _choice(text: str | None, runner: Runner) -> Any:
    from pageferry.sweeps.cell_filter import parse_filter

    return None if text is None else parse_filter(text, runner)


class _Show:
    """Results, and what was asked of them."""

    def __init__(self, results: Results, query: Query, options: ShowOptions) -> None:
        from pageferry.sweeps.maps import choose_axes

        self._results = results
        self._query = query
        self._options = options
        self._figure = query.check_figure(options.best_by, "--best-by")
        self._x, self._y = choose_axes(query, options.x, options.y)

    def run(self) -> int:
        """Show all that was asked for; return the exit code.

        Files are opened before the work, tables are printed last.
        """
        options = self._options
        answer = None if options.sql is None else self._query.ask(options.sql)
        if options.csv_file is not None:
            with ReportFile(options.csv_file, "--csv", "the table", force=options.force) as file:
                file.write(to_csv(answer or self._summary()))
        sheets = [to_sheet(answer)] if answer else self._sheets()
        if options.html is not None:
            self._page(options.html, sheets)
        if options.csv_file != "-":
            self._print(sheets)
        return EXIT_OK

    def _print(self, sheets: list[Sheet]) -> None:
        from pageferry.runs.tables import print_sheets

        print_sheets(sheets, lines=self._notes(meaning=True) if self._options.sql is None else ())

    def _summary(self) -> QueryResult:
        """Make the table of all combinations, in numbers."""
        from pageferry.sweeps.columns import value_text
        from pageferry.sweeps.query import QueryResult

        names = [f"{figure}{end}" for figure in _FIGURES for end in ("", "_min", "_max")]
        axes = self._query.axes
        rows = []
        for group in self._query.groups(_FIGURES):
            words = [
                value_text(axis, value) for axis, value in zip(axes, group.values, strict=True)
            ]
            figures: list[float | None] = []
            for figure in _FIGURES:
                spread = group.figures[figure]
                each = spread and (spread.median, spread.least, spread.greatest)
                figures += each or (None, None, None)
            rows.append((*words, group.cells, group.good, *figures, self._results.runner))
        return QueryResult((*axes, "cells", "good", *names, "runner"), tuple(rows))

    @property
    def _simulated(self) -> bool:
        """Whether no guest ran in any of the cells."""
        return self._results.runner == "simulate"

    def _sheets(self) -> list[Sheet]:
        from pageferry.sweeps.maps import maps

        found = maps(self._query, self._figure, self._x, self._y)
        maps_of = [map_sheet(each, self._figure) for each in found]
        if self._simulated:
            maps_of = [replace(each, title=f"{each.title}, simulated") for each in maps_of]
        return [self._table(), *maps_of]

    def _table(self) -> Sheet:
        from pageferry.common.units import human_bytes
        from pageferry.runs.tables import Sheet, spread_text, three_digits
        from pageferry.sweeps.columns import value_text

        texts = {"bytes_on_wire": human_bytes, "guest_slowdown": loss}
        axes = self._query.axes
        rows = []
        for group in self._query.groups(_FIGURES):
            words = [
                value_text(axis, value) for axis, value in zip(axes, group.values, strict=True)
            ]
            good = (
                str(group.good) if group.good == group.cells else f"{group.good} of {group.cells}"
            )
            figures = [
                spread_text(
                    group.figures[name], texts.get(name, three_digits), several=group.good > 1
                )
                for name in _FIGURES
            ]
            rows.append((*words, good, *figures))
        count, of = self._query.count, self._results.of
        title = f"{self._results.name}: {count} of {of} cells"
        if self._simulated:
            title += ", simulated"
        return Sheet(title, (*axes, "runs", *_HEADINGS), tuple(rows), left=len(axes))

    def _notes(self, *, meaning: bool) -> list[str]:
        from pageferry.sweeps.pictures import best_meaning

        lines = [_SIMULATED if self._simulated else _LEGEND]
        if meaning and "strategy" in self._query.varied():
            lines.append(best_meaning(self._figure, simulated=self._simulated))
        return lines + self._doubts()

    def _doubts(self) -> list[str]:
        """Say what the number of runs leaves open."""
        groups = self._query.groups(())
        if not any(group.good for group in groups):
            return [_NO_RUN]
        if self._simulated or any(group.good > 1 for group in groups):
            return []
        return [_ONE_RUN if all(group.cells == 1 for group in groups) else _ONE_GOOD_RUN]

    def _page(self, name: str, sheets: list[Sheet]) -> None:
        from pageferry.common.html import check_libraries, render
        from pageferry.sweeps.curves import curves
        from pageferry.sweeps.maps import maps
        from pageferry.sweeps.pictures import draw_sweep, left_out

        check_libraries()
        found = maps(self._query, self._figure, self._x, self._y)
        drawn = curves(self._query)
        notes = [*self._notes(meaning=False), *left_out(found, "maps"), *left_out(drawn, "curves")]
        with ReportFile(name, "--html", "the page", force=self._options.force) as file:
            file.write(
                render(
                    [],
                    title=f"pageferry sweep: {self._results.name}",
                    labels=[],
                    tables=[sheets[0].to_html()],
                    notes=notes,
                    pictures=draw_sweep(found, drawn, self._figure, simulated=self._simulated),
                    simulation=self._simulated,
                )
            )


def map_sheet(found: Map, figure: str) -> Sheet:
    """Make a map's table for the terminal: columns are x, rows are y.

    Args:
        found: The map.
        figure: The column of results that is compared.

    Returns:
        A table with the best strategy at each place, and its median.
    """
    from pageferry.runs.tables import Sheet
    from pageferry.sweeps.columns import value_text
    from pageferry.sweeps.pictures import words_of

    def tick(option: str | None, value: Any) -> str:
        return "" if option is None else value_text(option, value)

    corner = (
        f"{found.y or ''} \\ {found.x or ''}".strip(" \\")
        if not (found.x and found.y)
        else (f"{found.y} \\ {found.x}")
    )
    title = f"the best strategy by {figure}"
    return Sheet(
        f"{title}: {found.title}" if found.title else title,
        (corner, *(tick(found.x, column) for column in found.columns)),
        tuple(
            (
                tick(found.y, row),
                *(words_of(found.places.get((column, row)), figure) for column in found.columns),
            )
            for row in found.rows
        ),
    )


def to_sheet(answer: QueryResult) -> Sheet:
    """Make the table of any answer.

    Args:
        answer: What DuckDB returned.

    Returns:
        A table without a title; the leading columns that are all words are left-aligned.
    """
    from pageferry.runs.tables import NOTHING, Sheet

    def cell(value: Any) -> str:
        if value is None:
            return NOTHING
        return f"{value:,.6g}" if isinstance(value, float) else str(value)

    left = 0
    for at in range(len(answer.columns)):
        if not all(row[at] is None or isinstance(row[at], str) for row in answer.rows):
            break
        left += 1
    rows = tuple(tuple(cell(value) for value in row) for row in answer.rows)
    return Sheet("", answer.columns, rows, left=left)


def to_csv(answer: QueryResult) -> str:
    """Write an answer as CSV (RFC 4180), with a heading.

    Args:
        answer: What DuckDB returned, or the summary.

    Returns:
        The file's text; what is not known is empty.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(answer.columns)
    writer.writerows(answer.rows)
    return out.getvalue()
