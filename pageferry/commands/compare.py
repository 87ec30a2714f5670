"""`pageferry compare`: the same guest under several strategies, one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from cyclopts import Parameter
from pydantic import Field

from pageferry.common.capacity.agents import check_some_pair
from pageferry.common.command_line.options import Options
from pageferry.common.command_line.run import LimitOptions, OutputOptions, tell
from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import EXIT_LIMIT_MISSED, EXIT_OK, PageferryError
from pageferry.common.files.report_files import ReportFiles
from pageferry.common.process.notices import complain
from pageferry.common.process.status import StatusPipe
from pageferry.common.report.limits import ended_by, sentence
from pageferry.common.report.schema import Report
from pageferry.common.report.summary import LOST_SHARE, is_simulated
from pageferry.common.units import format_size
from pageferry.net.options import NetOptions
from pageferry.runs import tables
from pageferry.runs.axes import CompareOptions, span, varied
from pageferry.runs.document import SeriesDocument, SheetDocument, render_series
from pageferry.runs.predicted import predicted_sheet
from pageferry.runs.rows import FIGURES, Row, summarise
from pageferry.runs.series import Attempt, Series, Signals, follow

_HEADINGS: Final = {
    "downtime_ms": "downtime ms",
    "total_time_ms": "total ms",
    "bytes_on_wire": "wire",
    "guest_slowdown": "guest's loss",
}
_LEGEND: Final = (
    "rounds: (n) of them drained the cache. ratio: to the first row's. wire: bytes of all"
    f" connections. guest's loss: {LOST_SHARE}."
)


class CompareSeries(Options):
    """How often each configuration is run."""

    runs: Annotated[
        int,
        Field(ge=1, le=1000, description="runs of each row, in turn: medians and spread"),
    ] = 1


def compare(
    *,
    options: Annotated[CompareOptions | None, Parameter(name="*")] = None,
    series: Annotated[CompareSeries | None, Parameter(name="*")] = None,
    net: Annotated[NetOptions | None, Parameter(name="*")] = None,
    limits: Annotated[LimitOptions | None, Parameter(name="*")] = None,
    output: Annotated[OutputOptions | None, Parameter(name="*")] = None,
    status_fd: Annotated[int | None, Parameter(show=False)] = None,
) -> int:
    """Migrate the same guest under several strategies, and print what each cost.

    Every combination of --strategies, --cache and the other options that take several values is
    a row; all rows have the same guest, seed and load, and with --net every run has a network of
    its own. A run that fails is a row, too. Ctrl-C ends the series and prints what has finished.
    """
    from pageferry.common.report.binding_limit import over
    from pageferry.common.report.limits import given, judge, warn
    from pageferry.common.wire.congestion import need_congestion
    from pageferry.common.workload.registry import choose

    options = options or CompareOptions()
    if net is not None:
        options = over(options, net.rate)
    cases, cells = span(options)
    if net is not None:
        net.spec()  # what is wrong with it is bad usage of this command, and not of every row
    # What is wrong in all rows fails now, and not once a row.
    choose(cases[0].config.workload).pinned()
    need_congestion(cases[0].config.congestion)
    check_some_pair(case.config for case in cases)
    runs, output = (series or CompareSeries()).runs, output or OutputOptions()
    warn([case.config.strategy for case in cases], options)
    tell([case.config for case in cases], quiet=output.quiet)
    pipe = StatusPipe(status_fd) if status_fd is not None else None
    with Signals() as signals, ReportFiles(output) as files:
        done = follow(cases, runs, output, signals, pipe, net)
        for report in done.reports:
            judge(report, given(options))
        _write(done, cells, files, table=output.json_file != "-")
    if done.interrupted:
        complain(done.interruption)
    return done.exit_code or _enforced(done, limits or LimitOptions())


def _enforced(done: Series, limits: LimitOptions) -> int:
    """The exit code of a series in which nothing else went wrong."""
    missed = sum(bool(report.limits_missed) for report in done.reports)
    if not (limits.enforce and missed):
        return EXIT_OK
    complain(f"{missed} of {len(done.reports)} runs missed a limit")
    return EXIT_LIMIT_MISSED


def shortcomings(done: Series) -> list[str]:
    """A line for each case whose rounds did not converge, or that missed a limit."""
    out = []
    for index, case in enumerate(done.cases):
        reports = [a.report for a in done.of_case(index) if a.report is not None]
        open_ended = [each for each in reports if each.converged is False]
        missed = [each for each in reports if each.limits_missed]
        if open_ended:
            said = f"did not converge: {ended_by(open_ended[0])} ended the rounds"
            out.append(f"{case.label}: {said}{_share(open_ended, reports)}")
        if missed:
            said = "; ".join(sentence(each) for each in missed[0].limits_missed)
            out.append(f"{case.label}: {said}{_share(missed, reports)}")
    return out


def _share(some: list[Report], of: list[Report]) -> str:
    return "" if len(of) == 1 else f" ({len(some)} of {len(of)} runs)"


def make_rows(done: Series, cells: list[dict[str, str]]) -> list[Row]:
    """A row for each case of which at least one run has ended."""
    return [
        summarise(case.label, cells[index], done.of_case(index), done.report_places(index))
        for index, case in enumerate(done.cases)
        if done.of_case(index)
    ]


def make_sheet(rows: list[Row], axes: list[str], title: str) -> tables.Sheet:
    """The one table; the first row is what the others are compared with."""
    headings = [text for name in FIGURES for text in (_HEADINGS[name], "ratio")]
    return tables.Sheet(
        title=title,
        columns=(*axes, "path", "rounds", *headings, "verified"),
        rows=tuple(
            (
                *(row.cells[name] for name in axes),
                tables.path(row),
                tables.rounds(row),
                *(
                    text
                    for name in FIGURES
                    for text in (tables.figure(row, name), tables.figure_ratio(row, rows[0], name))
                ),
                tables.verified(row),
            )
            for row in rows
        ),
        left=len(axes),
    )


def comparison(labels: Sequence[str], reports: Sequence[Report]) -> tuple[tables.Sheet, list[str]]:
    """Of runs that were made apart: a row for each, and what has to be said of them."""
    rows = []
    for place, (label, report) in enumerate(zip(labels, reports, strict=True)):
        workload, memory = str(report.config.get("workload", "")), report.config.get("memory")
        size = format_size(memory) if isinstance(memory, int) and memory > 0 else tables.NOTHING
        name = f"{label} (simulated)" if is_simulated(report) else label
        cells = {"run": name, "strategy": report.strategy, "workload": workload, "memory": size}
        ended = report.outcome == "completed" and report.verified is not False
        code = EXIT_OK if ended else PageferryError.exit_code
        attempt = Attempt(place, report, code, report.error)
        rows.append(summarise(label, cells, [attempt], [place]))
    axes = [
        axis
        for axis in ("run", "strategy", "workload", "memory")
        if axis == "run" or len({row.cells[axis] for row in rows}) > 1
    ]
    return make_sheet(rows, axes, f"{len(rows)} runs"), [_LEGEND, *tables.complaints(rows)]


def _title(config: MigrationConfig, runs: int) -> str:
    parts = [config.workload, format_size(config.memory), f"seed {config.seed}"]
    return " · ".join(parts + ([f"median of {runs} runs"] if runs > 1 else []))


def _write(done: Series, cells: list[dict[str, str]], files: ReportFiles, *, table: bool) -> None:
    rows = make_rows(done, cells)
    title = _title(done.cases[0].config, done.runs)
    sheet = make_sheet(rows, varied(cells), title)
    predicted = predicted_sheet(done.reports, done.labels)
    sheets = [sheet] if predicted is None else [sheet, predicted]
    told = shortcomings(done)
    if table and rows:
        console = tables.wide_console()
        for each in sheets:
            each.print(console)
        tables.print_text(console, _LEGEND)
        for line in tables.complaints(rows):
            tables.print_text(console, line)
        for line in told:
            tables.print_text(console, line)
    document = SeriesDocument(
        runs=done.reports,
        table=[row.to_json(rows[0]) for row in rows],
        interrupted=done.interrupted,
        sheets=[SheetDocument(**each.to_html()) for each in sheets],
        notes=[_LEGEND, *tables.complaints(rows), *told],
    )
    files.write(
        document.to_json,
        lambda: render_series(
            document, f"pageferry compare: {title}", done.labels, done.case_labels
        ),
    )
