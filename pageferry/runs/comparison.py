"""Runs side by side: rows, tables and remarks, of a series or of runs that were made apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pydantic import BaseModel

from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import EXIT_OK, PageferryError
from pageferry.common.report.limits import ended_by, missed_sentence
from pageferry.common.report.schema import Report
from pageferry.common.report.summary import LOST_SHARE, is_simulated
from pageferry.common.units import format_size
from pageferry.net.options import NetOptions
from pageferry.runs import tables
from pageferry.runs.axes import span, varied
from pageferry.runs.document import SeriesDocument, SheetDocument
from pageferry.runs.predicted import predicted_sheet
from pageferry.runs.rows import FIGURES, SummaryRow, summarise
from pageferry.runs.series import Case, RunAttempt, Series

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


def checked_cases(
    options: BaseModel, net: NetOptions | None
) -> tuple[list[Case], list[dict[str, str]]]:
    """List what is to be run, and check now what would be wrong in all runs alike.

    Args:
        options: `CompareOptions`.
        net: The network that each run is to have; None is loopback as it is.

    Returns:
        The cases, and the value of each on every axis.

    Raises:
        ValidationError: One of them is not a configuration.
        UsageError: Something is wrong with all of them, or with a list of values.
    """
    from pageferry.common.capacity.agents import check_some_pair
    from pageferry.common.wire.congestion import need_congestion
    from pageferry.common.workload.registry import parse_workload

    cases, cells = span(options)
    if net is not None:
        net.spec()
    parse_workload(cases[0].config.workload).pinned()
    need_congestion(cases[0].config.congestion)
    check_some_pair(case.config for case in cases)
    return cases, cells


class Comparison:
    """A series that has ended, as its table and its document show it.

    Args:
        done: The series, perhaps interrupted.
        cells: The value of each case on every axis.

    Attributes:
        title: Of the table.
        rows: Of the cases that were run.
        sheets: The tables.
        notes: What is said below them.
    """

    def __init__(self, done: Series, cells: list[dict[str, str]]) -> None:
        self.done = done
        self.title = _title(done.cases[0].config, done.runs)
        self.rows = make_rows(done, cells)
        sheet = make_sheet(self.rows, varied(cells), self.title)
        predicted = predicted_sheet(done.reports, done.labels)
        self.sheets = [sheet] if predicted is None else [sheet, predicted]
        self.notes = [_LEGEND, *tables.complaints(self.rows), *shortcomings(done)]

    def document(self) -> SeriesDocument:
        """Make what `--json` writes.

        Returns:
            The series' reports, its table, and what was printed of it.
        """
        return SeriesDocument(
            runs=self.done.reports,
            table=[row.to_json(self.rows[0]) for row in self.rows],
            interrupted=self.done.interrupted,
            sheets=SheetDocument.of(self.sheets),
            notes=self.notes,
        )


def shortcomings(done: Series) -> list[str]:
    """List the cases whose rounds did not converge, or that missed a limit.

    Args:
        done: The series.

    Returns:
        A line for each shortcoming of a case; the first run that has it gives the words.
    """
    out = []
    for index, case in enumerate(done.cases):
        reports = [a.report for a in done.of_case(index) if a.report is not None]
        open_ended = [each for each in reports if each.converged is False]
        missed = [each for each in reports if each.limits_missed]
        if open_ended:
            said = f"did not converge: {ended_by(open_ended[0])} ended the rounds"
            out.append(f"{case.label}: {said}{_share(open_ended, reports)}")
        if missed:
            said = "; ".join(missed_sentence(each) for each in missed[0].limits_missed)
            out.append(f"{case.label}: {said}{_share(missed, reports)}")
    return out


def _share(some: list[Report], of: list[Report]) -> str:
    return "" if len(of) == 1 else f" ({len(some)} of {len(of)} runs)"


def make_rows(done: Series, cells: list[dict[str, str]]) -> list[SummaryRow]:
    """Make a row for each case of which at least one run has ended.

    Args:
        done: The series.
        cells: The value of each case on every axis.

    Returns:
        The rows, in the order of the cases.
    """
    return [
        summarise(case.label, cells[index], done.of_case(index), done.report_places(index))
        for index, case in enumerate(done.cases)
        if done.of_case(index)
    ]


def make_sheet(rows: list[SummaryRow], axes: list[str], title: str) -> tables.Sheet:
    """Make the table of a comparison.

    Args:
        rows: The first is what the others are compared with.
        axes: The columns of words; each row has them in its cells.
        title: What stands above it.

    Returns:
        The table.
    """
    headings = [text for name in FIGURES for text in (_HEADINGS[name], "ratio")]
    return tables.Sheet(
        title=title,
        columns=(*axes, "path", "rounds", *headings, "verified"),
        rows=tuple(
            (
                *(row.cells[name] for name in axes),
                tables.path(row),
                tables.rounds_text(row),
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


def compare_results(
    labels: Sequence[str], reports: Sequence[Report]
) -> tuple[tables.Sheet, list[str]]:
    """Compare runs that were made apart.

    Args:
        labels: One for each report.
        reports: Of the runs; the first is what the others are compared with.

    Returns:
        A table with a row for each run, and what has to be said of them.
    """
    rows = []
    for place, (label, report) in enumerate(zip(labels, reports, strict=True)):
        workload, memory = str(report.config.get("workload", "")), report.config.get("memory")
        size = format_size(memory) if isinstance(memory, int) and memory > 0 else tables.NOTHING
        name = f"{label} (simulated)" if is_simulated(report) else label
        cells = {"run": name, "strategy": report.strategy, "workload": workload, "memory": size}
        ended = report.outcome == "completed" and report.verified is not False
        code = EXIT_OK if ended else PageferryError.exit_code
        attempt = RunAttempt(place, report, code, report.error)
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
