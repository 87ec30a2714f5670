"""A row of a table: one case, its runs' medians and spread, and ratios to another row.

Pure: attempts in, rows out. Ratios are of medians.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pageferry.common.report.schema import Report
from pageferry.common.report.slowdown import slowdown
from pageferry.runs.series import RunAttempt

# What is measured, by its name in a row.
FIGURES: Final = ("downtime_ms", "total_time_ms", "bytes_on_wire", "guest_slowdown")


@dataclass(frozen=True, slots=True)
class Spread:
    """Several runs of one figure."""

    median: float
    least: float
    greatest: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread | None:
        """Summarise values.

        Args:
            values: One for each run.

        Returns:
            Median, least and greatest; None without values.
        """
        if not values:
            return None
        return Spread(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One case.

    Attributes:
        label: For people.
        cells: What tells it from other rows, by column.
        runs: How many there were.
        completed: How many of them moved the guest: only these give figures.
        indices: The places of their reports in the output's `runs`.
        paths: Of each completed run; None for a strategy without paths.
        rounds: How many, of each completed run.
        drains: How many of these drained the cache.
        figures: By the names of `FIGURES`; None where no run has the figure.
        verified: False if any run was not, None where none was asked to be.
        errors: One line each, without duplicates.
    """

    label: str
    cells: Mapping[str, str]
    runs: int
    completed: int
    indices: tuple[int, ...]
    paths: tuple[int | None, ...]
    rounds: tuple[int, ...]
    drains: tuple[int, ...]
    figures: Mapping[str, Spread | None]
    verified: bool | None
    errors: tuple[str, ...]

    def median(self, figure: str) -> float | None:
        """Return the median of a figure.

        Args:
            figure: One of `FIGURES`.

        Returns:
            The median; None where no completed run has the figure.
        """
        spread = self.figures[figure]
        return None if spread is None else spread.median

    @property
    def path(self) -> int | None:
        """The path that most runs took."""
        return statistics.mode(self.paths) if self.paths else None

    @property
    def round_count(self) -> float | None:
        """The median number of rounds."""
        return float(statistics.median(self.rounds)) if self.rounds else None

    def to_json(self, baseline: SummaryRow | None) -> dict[str, Any]:
        """Convert the row for programs: flat, with spreads and ratios beside each figure's median.

        Args:
            baseline: The row that ratios are to; None gives none.

        Returns:
            What JSON can say, by name.
        """
        out: dict[str, Any] = {
            "label": self.label,
            **self.cells,
            "outcome": "completed" if self.completed == self.runs else "failed",
            "attempts": self.runs,
            "completed": self.completed,
            "runs": list(self.indices),
            "path": self.path,
            "paths": list(self.paths),
            "rounds": self.round_count,
            "drain_rounds": float(statistics.median(self.drains)) if self.drains else None,
        }
        for name, spread in self.figures.items():
            number = round if name == "bytes_on_wire" else float  # sizes are integers
            out[name] = None if spread is None else number(spread.median)
            out[f"{name}_spread"] = (
                None if spread is None else [number(spread.least), number(spread.greatest)]
            )
            out[f"{name}_ratio"] = None if baseline is None else ratio(self, baseline, name)
        return out | {"verified": self.verified, "errors": list(self.errors)}


def summarise(
    label: str, cells: Mapping[str, str], attempts: Sequence[RunAttempt], indices: Sequence[int]
) -> SummaryRow:
    """Make the row of a case.

    Args:
        label: The case's.
        cells: What tells it from other rows, by column.
        attempts: All of its runs.
        indices: The places of their reports in the output.

    Returns:
        The row.
    """
    reports = [attempt.report for attempt in attempts if attempt.completed]
    done = [report for report in reports if report is not None]
    values: dict[str, list[float | None]] = {
        "downtime_ms": [report.downtime_ms for report in done],
        "total_time_ms": [report.total_time_ms for report in done],
        "bytes_on_wire": [float(report.bytes_on_wire) for report in done],
        "guest_slowdown": [slowdown(report) for report in done],
    }
    return SummaryRow(
        label=label,
        cells=cells,
        runs=len(attempts),
        completed=len(done),
        indices=tuple(indices),
        paths=tuple(report.path for report in done),
        rounds=tuple(len(report.rounds) for report in done),
        drains=tuple(sum(each.kind == "drain" for each in report.rounds) for report in done),
        figures={
            name: Spread.of([value for value in column if value is not None])
            for name, column in values.items()
        },
        verified=_verified(done),
        errors=tuple(dict.fromkeys(_error(each) for each in attempts if each.exit_code)),
    )


def _error(attempt: RunAttempt) -> str:
    return attempt.error or f"exit code {attempt.exit_code}"


def _verified(reports: Sequence[Report]) -> bool | None:
    known = [report.verified for report in reports if report.verified is not None]
    return all(known) if known else None


def ratio(row: SummaryRow, baseline: SummaryRow, figure: str) -> float | None:
    """Divide a figure of a row by the baseline's.

    Args:
        row: The row.
        baseline: What it is compared with.
        figure: One of `FIGURES`.

    Returns:
        A ratio of medians; None without a median, or if either is a gain (below 0, which is not
        part of a loss) or the baseline's is 0.
    """
    ours, theirs = row.median(figure), baseline.median(figure)
    if ours is None or theirs is None or ours < 0 or theirs <= 0:  # a gain is not part of a loss
        return None
    return ours / theirs
