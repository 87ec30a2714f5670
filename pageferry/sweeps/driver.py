"""Cells one after another in this process: parallel ones would spoil each other's numbers."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from pageferry.common.config.model import shown
from pageferry.common.errors import PageferryError
from pageferry.common.process.status import Status
from pageferry.common.report.limits import given, judge
from pageferry.pair import PairResult
from pageferry.runs.series import Attempt, Signals
from pageferry.sweeps.cells import Cell
from pageferry.sweeps.columns import result_row
from pageferry.sweeps.environment import environment
from pageferry.sweeps.ledger import Record
from pageferry.sweeps.runners import Ran, Runner


class Store(Protocol):
    """Where finished cells go; `ledger.Folder` is one."""

    def save(self, record: Record, report: str | None) -> None:
        """For good, when this returns."""


class Watcher(Protocol):
    """Who is told; `progress.SweepView` is one."""

    def began(self, cell: Cell, side_by_side: int = 1) -> None:
        """A cell is run."""

    def show(self, cell: Cell, status: Status) -> None:
        """A moment of it."""

    def finished(self, cell: Cell, record: Record, attempt: Attempt) -> None:
        """It has finished, and is stored."""

    def say(self, line: str) -> None:
        """Something that the user should know."""


@dataclass(frozen=True, slots=True)
class Clock:
    """When a cell was begun: for people, and to measure how long it took."""

    started: datetime
    monotonic_s: float

    @staticmethod
    def now() -> Clock:
        """This moment."""
        return Clock(datetime.now(UTC), time.monotonic())


def option_texts(cell: Cell) -> dict[str, str | list[str]]:
    """Every option that has a value, as a flag takes it, for records and workers."""
    model = type(cell.config)
    out: dict[str, str | list[str]] = {}
    for name in model.model_fields:
        value = getattr(cell.config, name)
        if value is None:
            continue
        several = isinstance(value, tuple)
        out[name.replace("_", "-")] = list(value) if several else shown(name, value, model)
    return out


def keep(
    cell: Cell,
    result: PairResult,
    clock: Clock,
    *,
    runner: Runner,
    store: Store,
    watcher: Watcher,
    worker: str | None = None,
    attempts: int = 1,
    versions: Mapping[str, str] | None = None,
) -> Record:
    """Store what became of a cell, and tell. versions: what it was run with; None: as here."""
    report = result.report
    if report is not None:
        judge(report, given(cell.config))
    record = Record(
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
    store.save(record, None if report is None else report.to_json())
    attempt = Attempt(cell.index, report, result.exit_code, result.error)
    watcher.finished(cell, record, attempt)
    return record


def run_here(
    cells: Iterable[Cell],
    *,
    runner: Runner,
    store: Store,
    watcher: Watcher,
    signals: Signals,
    log_dir: Path | None,
) -> bool:
    """All of them, or until a signal comes, which cancels the running one: whether one came."""
    for cell in cells:
        if signals.seen:
            return True
        clock = Clock.now()
        watcher.began(cell)
        logs = log_dir / cell.key if log_dir else None
        ran = _run(runner, cell, logs, watcher, signals)
        if ran.result is not None:
            keep(cell, ran.result, clock, runner=runner, store=store, watcher=watcher)
        if ran.interrupted:
            return True
    return signals.seen


def _run(runner: Runner, cell: Cell, logs: Path | None, watcher: Watcher, signals: Signals) -> Ran:
    """A cell that can't be begun has failed, like any other that fails."""

    def show(status: Status) -> None:
        watcher.show(cell, status)

    try:
        return runner.run(cell.config, logs, show, signals)
    except PageferryError as error:
        return Ran(PairResult(None, error.exit_code, str(error)))
