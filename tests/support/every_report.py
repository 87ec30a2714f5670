"""Reports of migrations that never were: every kind that there is."""

from __future__ import annotations

from typing import Any

import numpy as np

from pageferry.common.config.model import MigrationConfig
from pageferry.common.report.latency_histogram import bars_of, fault_counts
from pageferry.common.report.schema import Report

BINS = 8
# Of an earlier version: the latencies of `full_report`, as hdrhistogram wrote them.
OLD_HISTOGRAM = (
    "HISTFAAAAIF4nC3I0QoBURSF4W2fkCZJkyQmSZI0SZomSZOkSXLnkbyBN/IsLlx6BH9r5nytf9eZPF+xmb2t"
    "eqE+X+KP6GPFr/q5t7zhHkhAE23pSISu9NCXWAY+1EYylgRTmWEuC1lihTVLaeqb2tZ3LKMZcuzlIEcUcsJZLlL6Vbv5H4+UFFM="
)


def _config(**changes: Any) -> dict[str, Any]:
    config = MigrationConfig.model_validate(changes).model_dump(mode="json")
    return config | {"versions": {"python": "3.11.7"}, "host": "here", "dest_host": "there"}


def _round(index: int, kind: str, start_ms: float, ms: float, size: int) -> dict[str, Any]:
    pages = {"pages": size // 4096, "zero_pages": 3, "lines": 0, "drained_lines": 0}
    after = {"dirty_pages_after": 20, "dirty_ratio_after": 0.02}
    times = {"start_ms": start_ms, "duration_ms": ms}
    return {"index": index, "kind": kind, "bytes": size} | pages | after | times


def _column(t_ms: float, ms: float, phase: str, faulted: int = 0) -> dict[str, Any]:
    counts = {"dirtied": [1] * BINS, "sent": list(range(BINS)), "faulted": [faulted] * BINS}
    return {"t_ms": t_ms, "duration_ms": ms, "phase": phase} | counts


def _samples(until_ms: float, resume_ms: float, end_ms: float) -> list[dict[str, Any]]:
    def sample(t_ms: float, where: str) -> dict[str, Any]:
        return {"t_ms": t_ms, "steps_per_s": 5e4, "dirty_pages_per_s": 0.0, "where": where}

    here = [sample(t, "source") for t in range(-900, int(until_ms), 100)]
    there = [sample(t, "dest") for t in range(int(resume_ms) + 100, int(end_ms), 100)]
    return here + there


def completed(**changes: Any) -> Report:
    """Path 2: 1 s, of which 10 ms down, beginning at 980 ms."""
    return Report.model_validate(_completed() | changes)


def _completed() -> dict[str, Any]:
    parts = [("pause", 0.0, 1.0), ("drain", 1.0, 2.0), ("last pages", 3.0, 3.0)]
    parts += [("snapshot and commit", 6.0, 1.0), ("resume", 7.0, 3.0)]
    names = ("path 1", "path 2", "post-copy")
    return {
        "session": "ab" * 16,
        "strategy": "three-path",
        "path": 2,
        "outcome": "completed",
        "config": _config(memory=2**23, workload="zipf"),
        "downtime_ms": 10.0,
        "downtime_error_ms": 0.0,
        "downtime_parts": [{"name": n, "start_ms": start, "ms": ms} for n, start, ms in parts],
        "total_time_ms": 1000.0,
        "setup_ms": 20.0,
        "decisions": [
            {"after_round": 0, "decision": "NextRound(full)", "reason": "the first round"},
            {
                "after_round": 1,
                "dirty_pages": 500,
                "dirty_ratio": 0.244,
                "dirty_rate": 5e6,
                "bandwidth": 1e8,
                "expected_remainder_bytes": 2_000_000,
                "expected_downtime_ms": 25.0,
                "decision": "StopAndCopy",
                "reason": "little is left",
            },
        ],
        "rounds": [
            _round(1, "full", 1.0, 900.0, 8_000_000),
            _round(2, "final", 981.0, 8.0, 80_000),
        ],
        "bytes_on_wire": 8_100_000,
        "pages_sent": 2100,
        "pages": {
            "pages_per_bin": 256,
            "writes": [100] * BINS,
            "write_backs": [10] * BINS,
            "sends": [256] * BINS,
            "writes_total": 800,
            "write_backs_total": 80,
            "hottest": [{"page": 7, "writes": 90, "write_backs": 9, "sends": 3}],
            "activity": [_column(1.0, 900.0, "full"), _column(981.0, 8.0, "final")],
        },
        "estimates": [
            {
                "name": name,
                "taken": name == "path 2",
                "downtime_ms": 9.0,
                "total_time_ms": 990.0,
                "bytes": 8_000_000,
                "rounds": 2,
                "error_downtime": -0.1 if name == "path 2" else None,
            }
            for name in names
        ],
        "oracle": {
            "least_bytes": 8_000_000,
            "least_downtime_ms": 7.0,
            "least_total_time_ms": 900.0,
            "bytes_ratio": 1.01,
            "downtime_ratio": 1.43,
            "total_time_ratio": 1.11,
        },
        "guest": {
            "steps_before": 50_000,
            "steps_during": 48_000,
            "steps_per_s_before": 5e4,
            "steps_per_s_during": 4.9e4,
            "longest_gap_ms": 10.5,
            "longest_gap_start_ms": 979.8,
            "runs_at": "dest",
            "timeline": _samples(980, 990, 1900),
        },
        "verified": True,
        "digest_source": "cd" * 16,
        "digest_dest": "cd" * 16,
        "events": [
            {"t_ms": 0.0, "agent": "source", "event": "migration-start"},
            {"t_ms": 980.0, "agent": "source", "event": "paused"},
            {"t_ms": 990.0, "agent": "dest", "event": "resumed", "steps": [48_000]},
        ],
    }


def full_report(**changes: Any) -> Report:
    """As `completed`, then 500 ms of post-copy with traced faults: everything that there is."""
    values = _completed()
    trace, ns = [], []
    for number in range(100):
        us = 20.0 + number**2 / 10
        ns.append(int(us * 1e3))
        trace.append({"t_ms": 991.0 + 4 * number, "us": us, "page": number, "vcpu": 0})
    values["pages"]["activity"].append(_column(990.0, 500.0, "post-copy", faulted=12))
    values["total_time_ms"] = 1490.0
    values["postcopy"] = {
        "mechanism": "kernel",
        "mechanism_reason": "/dev/userfaultfd",
        "faults": 100,
        "zero_fills": 0,
        "pages_pulled": 200,
        "pages_pushed": 800,
        "duplicates": 1,
        "pages_never_moved": 0,
        "fault_latency_us": {"p50": 270.0, "p90": 850.0, "p99": 990.0, "p999": 1000, "max": 1000},
        "fault_counts": fault_counts(bars_of(np.array(ns), np.ones(100, np.int64))),
        "duration_ms": 500.0,
        "missing": [{"t_ms": 990.0 + 100 * n, "pages": 1000 - 200 * n} for n in range(6)],
        "trace": trace,
    }
    return Report.model_validate(values | changes)


def lazy() -> Report:
    """Nothing sent before the switch, nothing pushed, no fault traced, most never moved."""
    report = full_report(strategy="lazy-copy", path=None, rounds=[], estimates=[], oracle=None)
    assert report.postcopy is not None
    report.postcopy.trace = []
    report.postcopy.pages_never_moved = 700
    return report


def failed(**changes: Any) -> Report:
    """It broke before the first round was over."""
    values: dict[str, Any] = {
        "session": "ab" * 16,
        "strategy": "pre-copy",
        "path": None,
        "outcome": "failed",
        "error": "the destination has gone",
        "config": _config(strategy="pre-copy"),
    }
    return Report.model_validate(values | changes)


def kinds() -> dict[str, Report]:
    """Each by its name."""
    return {
        "completed": completed(),
        "post-copy": full_report(),
        "lazy": lazy(),
        "failed": failed(),
        "cancelled": failed(outcome="cancelled", error="cancelled by the user"),
        "in doubt": failed(outcome="in-doubt", error=None),
        "not verified": completed(verified=False, error="the digests differ"),
        "not asked": completed(verified=None),
        "no cache": completed(pages=None),
    }
