"""The job of `sweep`: a plan's cells run into a folder, and what the folder then holds."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from pageferry.api.keywords import Keywords
from pageferry.api.running import Job, Show
from pageferry.common.command_line.libraries import require_library
from pageferry.common.errors import EXIT_CANCELLED, UsageError
from pageferry.common.process.status import Status
from pageferry.common.report.reading import read_report
from pageferry.runs.document import SeriesDocument
from pageferry.runs.reports import Reports

if TYPE_CHECKING:
    from pageferry.common.report.schema import Report
    from pageferry.runs.series import RunAttempt
    from pageferry.sweeps.cells import Cell
    from pageferry.sweeps.grid import Grid
    from pageferry.sweeps.ledger import Record

SWEEP: Final = frozenset({"runner", "filter", "retry_failed", "scheduler", "log_dir", "enforce"})


class _View:
    """Turns the moments of a sweep into statuses."""

    def __init__(self, show: Show, todo: int, done: int) -> None:
        self._show = show
        self._of = todo + done
        self._done = done

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def began(self, cell: Cell, side_by_side: int = 1) -> None:
        """Tell that a cell has begun."""
        del side_by_side
        self.show(cell, Status(phase="begins"))

    def show(self, cell: Cell, status: Status) -> None:
        """Tell of a moment of a cell."""
        place = f"{self._done} of {self._of} cells · {cell.label} · {status.phase}"
        self._show(status.model_copy(update={"phase": place}))

    def finished(self, cell: Cell, record: Record, attempt: RunAttempt) -> None:
        """Tell that a cell has finished and is stored."""
        del record, attempt
        self._done += 1
        self.show(cell, Status(phase="has finished"))

    def say(self, line: str) -> None:
        """Pass on a line that the user should know."""
        self._show(Status(phase="notice", notice=line))


def sweep_job(
    plan: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None,
    options: Mapping[str, Any],
) -> Job[Reports]:
    """Check the arguments of `sweep`, and make its job.

    Args:
        plan: The plan, a TOML file; read at once.
        folder: Where the results go; None is the folder that the plan names.
        options: The caller's keywords, names of `SWEEP`.

    Returns:
        The job. It runs what is pending, and returns the reports of all cells that have finished.

    Raises:
        UsageError: Something in them is wrong, a library is missing, or `log_dir` can't be used.
    """
    from pageferry.common.files.report_files import need_folder
    from pageferry.sweeps.grid import make_grid

    words = Keywords(options, SWEEP)
    runner, choice = words.pop("runner"), words.pop("filter")
    retry_failed, enforce = bool(words.pop("retry_failed")), bool(words.pop("enforce"))
    scheduler, log_dir = words.pop("scheduler"), words.pop("log_dir")
    where = None if folder is None else Path(folder)
    grid = make_grid(Path(plan), where, runner=runner, choice=choice)
    require_library("sweep", "pyarrow", *(["distributed"] if scheduler is not None else []))
    logs = None if log_dir is None else Path(log_dir)
    if logs is not None:
        grid.check_logs(logs)
        if scheduler is not None:
            raise UsageError("log_dir is for cells that are run here: not with scheduler")
        need_folder(logs, "--log-dir")

    def work(show: Show) -> Reports:
        from pageferry.sweeps.grid import exit_code, run_grid

        records, interrupted = run_grid(
            grid,
            lambda todo, done: _View(show, len(todo), len(done)),
            retry_failed=retry_failed,
            scheduler=scheduler,
            log_dir=logs,
            say=lambda line: show(Status(phase="notice", notice=line)),
        )
        code = EXIT_CANCELLED if interrupted else exit_code(records, enforce=enforce)
        return Reports(_document(grid, records, interrupted=interrupted), code)

    return work


def _document(grid: Grid, records: Mapping[str, Record], *, interrupted: bool) -> SeriesDocument:
    """Collect all finished cells, of this sweep or an earlier one, in the plan's order."""
    from pageferry.sweeps.ledger import report_file

    runs: list[Report] = []
    table: list[dict[str, Any]] = []
    for cell in grid.cells:
        record = records.get(cell.key)
        if record is None:
            continue
        places: Sequence[int] = ()
        if record.has_report:
            places = [len(runs)]
            runs.append(read_report(grid.folder / report_file(cell.key)))
        table.append(_row(cell, record, grid, list(places)))
    return SeriesDocument(runs=runs, table=table, interrupted=interrupted)


def _row(cell: Cell, record: Record, grid: Grid, places: list[int]) -> dict[str, Any]:
    """Make a cell's row: its place on all axes, what became of it, and its figures."""
    return {
        "label": record.label,
        "runs": places,
        **{axis: record.options.get(axis) for axis in grid.axes},
        "repeat": cell.repeat,
        "outcome": record.outcome,
        "error": record.error,
        "seconds": record.seconds,
        **record.results,
    }
