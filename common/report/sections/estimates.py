"""Of a report: what other ways would have cost, and how evenly bytes left."""

from __future__ import annotations

from typing import Literal

from pageferry.common.report.sections.base import ReportSection


class EstimateReport(ReportSection):
    """What another way would have cost for this run's dirty history, by calculation.

    name: `path 1`, `path 2`, `path 3`, or a strategy. taken: it is the way that was taken, so that
    the estimate can be compared with what was measured: error_* are estimate / measured - 1.
    """

    name: str
    taken: bool
    downtime_ms: float
    total_time_ms: float
    bytes: int
    rounds: int
    error_downtime: float | None = None
    error_total_time: float | None = None
    error_bytes: float | None = None


class OracleReport(ReportSection):
    """The least that this guest on this link allowed any strategy, and how far the run was from it.

    least_bytes: every page once, zero pages as marks; least_downtime_ms: this run's switch-over
    with nothing left to send. *_ratio: measured / least.
    """

    least_bytes: int
    least_downtime_ms: float
    least_total_time_ms: float
    bytes_ratio: float
    downtime_ratio: float
    total_time_ratio: float


class BurstinessReport(ReportSection):
    """How evenly bytes left the source, while pages were sent within a rate limit.

    windows: stretches of `window_ms` that were looked at; p50, p99, max: the share of the rate that
    they had (1: just the rate). From what was handed to the kernel, at the time of it.
    """

    pacing: Literal["bucket", "kernel"]
    window_ms: float
    windows: int
    p50: float
    p99: float
    max: float
