"""Sections of a report about what other ways would have cost, and how evenly bytes left."""

from __future__ import annotations

from typing import Literal

from pageferry.common.report.sections.base import ReportSection


class EstimateReport(ReportSection):
    """What another way would have cost for this run's dirty history, by calculation.

    Attributes:
        name: `path 1`, `path 2`, `path 3`, or a strategy.
        taken: Whether it is the way that was taken, so that it can be compared with what was
            measured.
        downtime_ms: Estimated downtime.
        total_time_ms: Estimated total time.
        bytes: Estimated bytes on the wire.
        rounds: How many rounds it would have taken.
        error_downtime, error_total_time, error_bytes: Estimate / measured - 1, of the way that was
            taken.
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

    Attributes:
        least_bytes: Every page once, zero pages as marks.
        least_downtime_ms: This run's switch-over with nothing left to send.
        least_total_time_ms: The least total time.
        bytes_ratio, downtime_ratio, total_time_ratio: Measured / least.
    """

    least_bytes: int
    least_downtime_ms: float
    least_total_time_ms: float
    bytes_ratio: float
    downtime_ratio: float
    total_time_ratio: float


class BurstinessReport(ReportSection):
    """How evenly bytes left the source, while pages were sent within a rate limit.

    It is measured by what was handed to the kernel, at the time when it was.

    Attributes:
        pacing: Who spaced the bytes out.
        window_ms: Length of the stretches of time that were looked at.
        windows: How many there were.
        p50, p99, max: The share of the rate that windows had (1: exactly the rate).
    """

    pacing: Literal["bucket", "kernel"]
    window_ms: float
    windows: int
    p50: float
    p99: float
    max: float
