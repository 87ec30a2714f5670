"""What a running sweep shows: its progress, and on a terminal a line for each cell that has ended.

Without a bar (see `common.terminal.progress`), finished cells get no lines of their own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence

from rich.markup import escape
from rich.progress import BarColumn, TextColumn
from rich.table import Column

from pageferry.common.process.status import Status, StatusPipe
from pageferry.common.terminal.live import LiveView
from pageferry.common.terminal.progress import COMPILING, Wish
from pageferry.runs.series import RunAttempt, outcome_words
from pageferry.sweeps.cells import Cell
from pageferry.sweeps.ledger import Record


class TimeLeft:
    """How long the rest takes, if what has finished is any guide.

    Cells differ: what is asked of each (its warm-up, its bytes at its bandwidth) is calculated, and
    the factor by which the finished ones took longer is assumed for the others.

    Args:
        least_s: The calculated seconds of all cells, finished ones included.
    """

    def __init__(self, least_s: float) -> None:
        self._left_s = least_s
        self._done_s = 0.0
        self._took_s = 0.0

    @staticmethod
    def of(todo: Iterable[Cell], done: Iterable[tuple[Cell, Record]]) -> TimeLeft:
        """Make the estimate that is known before the first cell is run.

        Args:
            todo: Cells that are to be run.
            done: Cells that have finished before, with their records.

        Returns:
            An estimate that `finished` keeps up to date.
        """
        before = [(cell.least_s, record.seconds) for cell, record in done]
        least_s = sum(cell.least_s for cell in todo) + sum(least for least, _ in before)
        left = TimeLeft(least_s)
        for cell_least_s, took_s in before:
            left.finished(cell_least_s, took_s)
        return left

    def finished(self, least_s: float, took_s: float) -> None:
        """Count one more finished cell.

        Args:
            least_s: Its calculated seconds.
            took_s: The seconds that it took.
        """
        self._left_s -= least_s
        self._done_s += least_s
        self._took_s += took_s

    def seconds(self, side_by_side: int = 1) -> float:
        """Estimate how long the rest takes.

        Args:
            side_by_side: How many cells are run at the same time.

        Returns:
            Seconds; just the calculated ones until something has finished.
        """
        factor = self._took_s / self._done_s if self._done_s else 1.0
        return max(self._left_s, 0.0) * factor / max(side_by_side, 1)


def rough_duration(seconds: float) -> str:
    """Write a duration for people: `40 s`, `12 min`, `3.5 h`.

    Args:
        seconds: The duration.

    Returns:
        A rounded number and its unit.
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _whole(width: int) -> Column:
    return Column(no_wrap=True, min_width=width)


def _shortened() -> Column:
    return Column(no_wrap=True, overflow="ellipsis", ratio=1)


class SweepView(LiveView):
    """The progress of a sweep on standard error, entered while cells are run.

    Args:
        todo: What is to be run.
        done: What had finished before.
        wish: What the user has asked for.
        pipe: Of a supervisor that wants to know the same; None without one.
    """

    def __init__(
        self,
        todo: Sequence[Cell],
        done: Sequence[tuple[Cell, Record]],
        *,
        wish: Wish,
        pipe: StatusPipe | None,
    ) -> None:
        super().__init__(
            wish,
            TextColumn("[bold]{task.fields[place]}", table_column=_whole(12)),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[left]}", table_column=_whole(18)),
            TextColumn("{task.description}", table_column=_shortened()),
            expand=True,
        )
        self._on = self._lines.form == "bar"
        self._pipe = pipe
        self._total = len(done) + len(todo)
        self._done = len(done)
        self._failed = 0
        self._side_by_side = 1
        self._left = TimeLeft.of(todo, done)
        self._drawn = 0.0
        self._task = self._progress.add_task(
            "", total=self._total, completed=len(done), place="", left=""
        )

    def began(self, cell: Cell, side_by_side: int = 1) -> None:
        """Show that a cell begins.

        Args:
            cell: The one that begins.
            side_by_side: How many cells run now; the estimate of the time left uses it.
        """
        self._side_by_side = side_by_side
        self._tell("cell", {"label": cell.label, "key": cell.key, "of": self._total})
        self._draw(cell.label)

    def show(self, cell: Cell, status: Status) -> None:
        """Show a moment of a cell, at most four times a second; that kernels are compiled, always.

        Args:
            cell: The one that runs.
            status: Its latest. The pipe gets every one.
        """
        self._tell("status", status.model_dump())
        # Nobody here needs the interpreter lock, but drawing costs a core that the agents need.
        if time.monotonic() - self._drawn > 0.25 or COMPILING in status.phase:
            self._draw(f"{cell.label} · {status.phase}")

    def finished(self, cell: Cell, record: Record, attempt: RunAttempt) -> None:
        """Count a finished cell, and under a bar print a line about it.

        Args:
            cell: The one that has finished.
            record: As it was stored.
            attempt: How it ended, for the line.
        """
        self._done += 1
        self._failed += record.failed
        self._left.finished(cell.least_s, record.seconds)
        self._progress.update(self._task, completed=self._done)
        self._tell("finished", {"key": cell.key, "exit_code": record.exit_code})
        if self._on:
            place = f"{self._done} of {self._total}"
            self._progress.console.print(
                f"{place} · {cell.label}: {outcome_words(attempt)}", markup=False, highlight=False
            )

    def say(self, line: str) -> None:
        """Print a line on standard error, whatever progress is shown.

        Args:
            line: Without `pageferry: ` before it.
        """
        print(f"pageferry: {line}", file=sys.stderr, flush=True)

    def _draw(self, words: str) -> None:
        self._drawn = time.monotonic()
        place = f"{self._done} of {self._total}"
        if self._failed:
            place += f" [red]({self._failed} failed)[/]"
        left = f"about {rough_duration(self._left.seconds(self._side_by_side))} left"
        self._lines.show(
            f"{self._done} of {self._total} cells · {left} · {words}",
            words,
            {"cells_done": self._done, "cells": self._total, "cells_failed": self._failed},
        )
        self._progress.update(self._task, description=escape(words), place=place, left=left)

    def _tell(self, key: str, value: object) -> None:
        if self._pipe is not None:
            self._pipe.write(key, value)
