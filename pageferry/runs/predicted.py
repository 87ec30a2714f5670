"""Predictions of several runs next to what was measured: a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from pageferry.common.report.schema import Report
from pageferry.common.report.sections.prediction import PredictionCheck, PredictionReport
from pageferry.runs import tables


def predicted_sheet(reports: Sequence[Report], labels: Sequence[str]) -> tables.Sheet | None:
    """Make a table with a row for each run that was predicted and has ended.

    Args:
        reports: Of the runs.
        labels: One for each report.

    Returns:
        The table; None where no run has both.
    """
    rows = tuple(
        _row(label, report, report.prediction, report.prediction.taken)
        for label, report in zip(labels, reports, strict=True)
        if report.prediction is not None and report.prediction.taken is not None
    )
    if not rows:
        return None
    headings = ("total ms", "measured", "off", "downtime ms", "measured", "off", "bytes off")
    return tables.Sheet("predicted and measured", ("run", *headings), rows)


def _row(
    label: str, report: Report, made: PredictionReport, check: PredictionCheck
) -> tuple[str, ...]:
    said = next(each for each in made.strategies if each.strategy == check.strategy)
    return (
        label,
        tables.three_digits(said.total_time_ms),
        tables.three_digits(report.total_time_ms or 0.0),
        tables.percent(check.total_time_error),
        tables.three_digits(said.downtime_ms),
        tables.three_digits(report.downtime_ms or 0.0),
        f"{check.downtime_error_ms:+,.3g} ms",
        tables.percent(check.bytes_error),
    )
