"""Limits of a marker: read, and held against reports. A miss fails the test with one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

import pytest

if TYPE_CHECKING:
    from pageferry.common.report.schema import Report

# What can be limited, and where a report has it; None if it was not measured.
FIGURES: Final[dict[str, Callable[[Report], float | None]]] = {
    "downtime_ms": lambda report: report.downtime_ms,
    "total_time_ms": lambda report: report.total_time_ms,
    "setup_ms": lambda report: report.setup_ms,
    "bytes_on_wire": lambda report: report.bytes_on_wire,
    "pages_sent": lambda report: report.pages_sent,
    "pages_resent": lambda report: report.pages_resent,
    "rounds": lambda report: len(report.rounds),
    "longest_gap_ms": lambda report: report.guest.longest_gap_ms,
    "below_half_ms": lambda report: report.guest.below_half_ms,
    "lost": lambda report: report.guest.lost,
    "faults": lambda report: report.postcopy.faults if report.postcopy else None,
    "postcopy_ms": lambda report: report.postcopy.duration_ms if report.postcopy else None,
}


class FigureLimits:
    """The most that each figure of a migration may be.

    Args:
        most: By the figure's name in `FIGURES`; empty for no limits.

    Attributes:
        most: A copy of that.
    """

    def __init__(self, most: Mapping[str, float]) -> None:
        self.most = dict(most)
        self._looks = 0

    def check(self, report: Report) -> Report:
        """Fail the test if a report misses a limit.

        Args:
            report: Of one migration; one with figures that were not measured misses their limits.

        Returns:
            The report, if it misses none.
        """
        self._looks += 1
        missed = [said for each in self.most.items() if (said := _missed(report, *each))]
        if missed:
            from pageferry.common.report.summary import headline

            _fail(f"{'; '.join(missed)} ({headline(report)})")
        return report

    def need_looks(self) -> None:
        """Fail a test that has limits and in which nothing was measured."""
        if self.most and not self._looks:
            _fail(
                "the test has limits, and has made no migration by pageferry_migrate,"
                " pageferry_dest or pageferry_hosts"
            )


def _missed(report: Report, name: str, most: float) -> str | None:
    value = FIGURES[name](report)
    if value is None:
        return f"{name} has a limit of {_figure(most)}, and was not measured"
    return None if value <= most else f"{name} was {_figure(value)}, its limit is {_figure(most)}"


def _figure(value: float) -> str:
    """Write a count with all its digits, a measurement with six."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.6g}"


def read_limits(markers: Sequence[pytest.Mark]) -> FigureLimits:
    """Read the limits of a test, or fail it if one can't be understood.

    Args:
        markers: The test's, the closest one first, which counts.

    Returns:
        The limits, with nothing measured yet.
    """
    most: dict[str, float] = {}
    for marker in markers:
        if marker.args:
            _wrong(f"{marker.args[0]!r} has no name: expected a limit as downtime_ms=50")
        for name, value in marker.kwargs.items():
            _check(name, value)
            most.setdefault(name, value)
    return FigureLimits(most)


def _check(name: str, value: Any) -> None:
    if name not in FIGURES:
        from pageferry.common.command_line.suggestions import did_you_mean

        hint = did_you_mean(name, list(FIGURES))
        expected = ", ".join(FIGURES)
        _wrong(f"{name} is unknown: expected {expected}{f'; {hint}' if hint else ''}")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        _wrong(f"{name}={value!r} is no limit: expected a number of at least 0")


def _wrong(words: str) -> NoReturn:
    _fail(f"@pytest.mark.pageferry: {words}")


def _fail(words: str) -> NoReturn:
    pytest.fail(f"pageferry: {words}", pytrace=False)
