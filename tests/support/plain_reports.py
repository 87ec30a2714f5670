"""Reports of migrations that never were."""

from __future__ import annotations

from typing import Any

from pageferry.common.config.model import MigrationConfig
from pageferry.common.report.schema import Report
from pageferry.common.report.sections.guest import CacheReport, GuestReport, TimelineSample
from pageferry.common.report.sections.postcopy import PostcopyReport
from pageferry.common.report.sections.rounds import RoundReport
from pageferry.runs.series import RunAttempt


def round_report(index: int, kind: str, **changes: Any) -> RoundReport:
    values: dict[str, Any] = {
        "pages": 100,
        "zero_pages": 0,
        "lines": 0,
        "drained_lines": 0,
        "bytes": 409_600,
        "start_ms": 0.0,
        "duration_ms": 10.0,
        "dirty_pages_after": 20,
        "dirty_ratio_after": 0.2,
    }
    return RoundReport.model_validate({"index": index, "kind": kind} | values | changes)


def report(*, kinds: tuple[str, ...] = ("full", "dirty", "final"), **changes: Any) -> Report:
    """A completed, verified migration: 100 ms down of 1000, 1 MB; the guest lost nothing else."""
    values: dict[str, Any] = {
        "session": "ab" * 16,
        "strategy": "pre-copy",
        "path": None,
        "outcome": "completed",
        "config": MigrationConfig().model_dump(mode="json"),
        "downtime_ms": 100.0,
        "total_time_ms": 1000.0,
        "bytes_on_wire": 1_000_000,
        "rounds": [round_report(index, kind) for index, kind in enumerate(kinds, 1)],
        "guest": GuestReport(steps_before=5000, steps_during=4500, steps_per_s_before=5000.0),
        "verified": True,
    }
    return Report.model_validate(values | changes)


def attempt(
    case: int = 0, *, exit_code: int = 0, error: str | None = None, **changes: Any
) -> RunAttempt:
    return RunAttempt(case, report(**changes), exit_code, error)


def failed(case: int = 0, *, exit_code: int = 1, error: str | None = "it broke") -> RunAttempt:
    """A run that left no report."""
    return RunAttempt(case, None, exit_code, error)


def postcopy(duration_ms: float) -> PostcopyReport:
    return PostcopyReport(
        mechanism="kernel",
        mechanism_reason="",
        faults=0,
        zero_fills=0,
        pages_pulled=0,
        pages_pushed=0,
        duplicates=0,
        pages_never_moved=0,
        fault_latency_us=None,
        duration_ms=duration_ms,
        missing=[],
        trace=[],
    )


def sample(t_ms: float, steps_per_s: float, where: str = "dest") -> TimelineSample:
    return TimelineSample.model_validate(
        {"t_ms": t_ms, "steps_per_s": steps_per_s, "dirty_pages_per_s": 0.0, "where": where}
    )


def cache(hits: int, misses: int) -> CacheReport:
    return CacheReport(hits=hits, misses=misses, write_backs=0, spills=0, drained_lines=0)
