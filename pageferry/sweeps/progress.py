"""What is seen of a sweep while it runs: a line that follows it, and one for each cell at its end.

Only on a terminal; a sweep in the background says what went wrong, and no more.
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
from pageferry.runs.series import Attempt, outcome
from pageferry.sweeps.cells import Cell
from pageferry.sweeps.ledger import Record


class TimeLeft:
    """How long the rest takes, if what has finished is any guide.

    Cells differ: what is asked of one (its warm-up, its bytes at its bandwidth) is calculated, and
    how much longer the finished ones took than that is taken to be true of the others.
    """

    def __init__(self, least_s: float) -> None:
        """least_s: of all that is to be run."""
        self._left_s = least_s
        self._done_s = 0.0
        self._took_s = 0.0

    @staticmethod
    def of(todo: Iterable[Cell], done: Iterable[tuple[Cell, Record]]) -> TimeLeft:
        """As far as is known before the first of `todo`."""
        before = [(cell.least_s, record.seconds) for cell, record in done]
        least_s = sum(cell.least_s for cell in todo) + sum(least for least, _ in before)
        left = TimeLeft(least_s)
        for cell_least_s, took_s in before:
            left.finished(cell_least_s, took_s)
        return left

    def finished(self, least_s: float, took_s: float) -> None:
        """One more."""
        self._left_s -= least_s
        self._done_s += least_s
        self._took_s += took_s

    def seconds(self, side_by_side: int = 1) -> float:
        """side_by_side: how many are run at the same time."""
        factor = self._took_s / self._done_s if self._done_s else 1.0
        return max(self._left_s, 0.0) * factor / max(side_by_side, 1)


def rough(seconds: float) -> str:
    """For people: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _whole(width: int) -> Column:
    return Column(no_wrap=True, min_width=width)


def _shortened() -> Column:
    return Column(no_wrap=True, overflow="ellipsis", ratio=1)


class SweepView(LiveView):
    """Entered while cells are run. pipe: of a supervisor that wants to know the same."""

    def __init__(
        self,
        todo: Sequence[Cell],
        done: Sequence[tuple[Cell, Record]],
        *,
        wish: Wish,
        pipe: StatusPipe | None,
    ) -> None:
        """todo: what is to be run; done: what had finished before."""
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
        """A cell is run."""
        self._side_by_side = side_by_side
        self._tell("cell", {"label": cell.label, "key": cell.key, "of": self._total})
        self._draw(cell.label)

    def show(self, cell: Cell, status: Status) -> None:
        """A moment of it."""
        self._tell("status", status.model_dump())
        # Drawing takes the interpreter lock from nobody here, but it costs a core that agents need.
        if time.monotonic() - self._drawn > 0.25 or COMPILING in status.phase:
            self._draw(f"{cell.label} · {status.phase}")

    def finished(self, cell: Cell, record: Record, attempt: Attempt) -> None:
        """A cell has finished, well or not."""
        self._done += 1
        self._failed += record.failed
        self._left.finished(cell.least_s, record.seconds)
        self._progress.update(self._task, completed=self._done)
        self._tell("finished", {"key": cell.key, "exit_code": record.exit_code})
        if self._on:
            place = f"{self._done} of {self._total}"
            self._progress.console.print(
                f"{place} · {cell.label}: {outcome(attempt)}", markup=False, highlight=False
            )

    def say(self, line: str) -> None:
        """Something that the user should know, progress or not."""
        print(f"pageferry: {line}", file=sys.stderr, flush=True)

    def _draw(self, words: str) -> None:
        self._drawn = time.monotonic()
        place = f"{self._done} of {self._total}"
        if self._failed:
            place += f" [red]({self._failed} failed)[/]"
        left = f"about {rough(self._left.seconds(self._side_by_side))} left"
        self._lines.show(
            f"{self._done} of {self._total} cells · {left} · {words}",
            words,
            {"cells_done": self._done, "cells": self._total, "cells_failed": self._failed},
        )
        self._progress.update(self._task, description=escape(words), place=place, left=left)

    def _tell(self, key: str, value: object) -> None:
        if self._pipe is not None:
            self._pipe.write(key, value)
