"""Cells one after another in this process: parallel ones would distort each other's figures."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from pageferry.common.config.model import value_words
from pageferry.common.errors import PageferryError
from pageferry.common.process.status import Status
from pageferry.common.report.limits import judge, limits_given
from pageferry.pair import PairResult
from pageferry.runs.series import RunAttempt, Signals
from pageferry.sweeps.cells import Cell
from pageferry.sweeps.columns import result_row
from pageferry.sweeps.environment import environment
from pageferry.sweeps.ledger import Record
from pageferry.sweeps.runners import Ran, Runner


class Store(Protocol):
    """Where finished cells are kept, such as `ledger.Folder`."""

    def save(self, record: Record, report: str | None) -> None:
        """Store a finished cell. It is durable when this returns.

        Args:
            record: What became of the cell.
            report: The JSON of its report; None where it has none.
        """


class SweepWatcher(Protocol):
    """A follower of a sweep's progress, such as `progress.SweepView`."""

    def began(self, cell: Cell, side_by_side: int = 1) -> None:
        """Note that a cell begins.

        Args:
            cell: The one that begins.
            side_by_side: How many cells run now, this one included.
        """

    def show(self, cell: Cell, status: Status) -> None:
        """Show the present moment of a running cell.

        Args:
            cell: The one that runs.
            status: As its agents, or the simulation, report it.
        """

    def finished(self, cell: Cell, record: Record, attempt: RunAttempt) -> None:
        """Note that a cell has finished and is stored.

        Args:
            cell: The one that has finished.
            record: As it was stored.
            attempt: The same outcome with the whole report; its `case` is the cell's index.
        """

    def say(self, line: str) -> None:
        """Tell the user something, whatever progress is shown.

        Args:
            line: One line, without `pageferry: ` before it.
        """


@dataclass(frozen=True, slots=True)
class Clock:
    """When a cell was begun, for people and to measure how long it took.

    Attributes:
        started: UTC.
        monotonic_s: Of `time.monotonic()`.
    """

    started: datetime
    monotonic_s: float

    @staticmethod
    def now() -> Clock:
        """Read both clocks.

        Returns:
            This moment.
        """
        return Clock(datetime.now(UTC), time.monotonic())


def option_texts(cell: Cell) -> dict[str, str | list[str]]:
    """Write each option that has a value as its flag takes it, for records and workers.

    Args:
        cell: Only its configuration is looked at.

    Returns:
        Texts by option name, with dashes; a list of them where an option may be given several
        times. Options that are None are left out.
    """
    model = type(cell.config)
    out: dict[str, str | list[str]] = {}
    for name in model.model_fields:
        value = getattr(cell.config, name)
        if value is None:
            continue
        several = isinstance(value, tuple)
        out[name.replace("_", "-")] = list(value) if several else value_words(name, value, model)
    return out


def store_outcome(
    cell: Cell,
    result: PairResult,
    clock: Clock,
    *,
    runner: Runner,
    store: Store,
    watcher: SweepWatcher,
    worker: str | None = None,
    attempts: int = 1,
    versions: Mapping[str, str] | None = None,
) -> Record:
    """Store what became of a cell, and tell the watcher.

    Args:
        cell: The one that has ended.
        result: How it ended. The limits that it missed are put into its report.
        clock: When it was begun; `seconds` of the record count from there.
        runner: What ran it.
        store: Takes the record and the report. Its errors (`UsageError`) pass through.
        watcher: Called once both are stored.
        worker: The address of the worker that ran it; None is this host.
        attempts: How often it was begun.
        versions: What it was run with; None takes those of this process.

    Returns:
        The record as it was stored.
    """
    report = result.report
    if report is not None:
        judge(report, limits_given(cell.config))
    record = _record(cell, result, clock, runner, worker, attempts, versions)
    store.save(record, None if report is None else report.to_json())
    attempt = RunAttempt(cell.index, report, result.exit_code, result.error)
    watcher.finished(cell, record, attempt)
    return record


def _record(
    cell: Cell,
    result: PairResult,
    clock: Clock,
    runner: Runner,
    worker: str | None,
    attempts: int,
    versions: Mapping[str, str] | None,
) -> Record:
    """Make the record of a cell that has ended; see `store_outcome`."""
    report = result.report
    return Record(
        key=cell.key,
        label=cell.label,
        runner=runner.name,
        options=option_texts(cell),
        outcome=result.outcome,
        exit_code=result.exit_code,
        error=result.error,
        started=clock.started.isoformat(timespec="milliseconds"),
        seconds=time.monotonic() - clock.monotonic_s,
        worker=worker or platform.node(),
        attempts=attempts,
        versions=dict(environment() if versions is None else versions),
        results={} if report is None else result_row(report),
        has_report=report is not None,
    )


def run_here(
    cells: Iterable[Cell],
    *,
    runner: Runner,
    store: Store,
    watcher: SweepWatcher,
    signals: Signals,
    log_dir: Path | None,
) -> bool:
    """Run cells one after another until a signal comes, which cancels the running one.

    Args:
        cells: In the order in which they are run.
        runner: Runs each of them. A cell that it can't begin is stored as failed.
        store: Takes each cell that has finished.
        watcher: Gets all progress.
        signals: Entered by the caller.
        log_dir: Each cell logs to a folder there that has its key as name; None keeps no logs.

    Returns:
        Whether a signal came.

    Raises:
        UsageError: The store can't be written.
    """
    for cell in cells:
        if signals.seen:
            return True
        clock = Clock.now()
        watcher.began(cell)
        logs = log_dir / cell.key if log_dir else None
        ran = _run(runner, cell, logs, watcher, signals)
        if ran.result is not None:
            store_outcome(cell, ran.result, clock, runner=runner, store=store, watcher=watcher)
        if ran.interrupted:
            return True
    return signals.seen


def _run(
    runner: Runner, cell: Cell, logs: Path | None, watcher: SweepWatcher, signals: Signals
) -> Ran:
    """Run one cell; one that can't be begun has failed, like any other that fails."""

    def show(status: Status) -> None:
        watcher.show(cell, status)

    try:
        return runner.run(cell.config, logs, show, signals)
    except PageferryError as error:
        return Ran(PairResult(None, error.exit_code, str(error)))
