"""A prediction that never was made."""

from __future__ import annotations

from typing import Any

from pageferry.common.report.sections.prediction import PredictionReport


def prediction(**changes: Any) -> PredictionReport:
    """Of two strategies; pre-copy is spoken for, and was taken, and was nearly right."""
    values: dict[str, Any] = {
        "measured_ms": 1000.0,
        "dirty_rate": 5e6,
        "curve": [{"t_ms": 1000.0, "pages": 1221, "lines": 2000, "bytes": 150_000}],
        "zero_pages": 0,
        "bandwidth": 1e8,
        "bandwidth_from": "limit",
        "steps_per_s_before": 1000.0,
        "steps_per_s_while": 990.0,
        "strategies": [
            {
                "strategy": "pre-copy",
                "total_time_ms": 1020.0,
                "downtime_ms": 90.0,
                "bytes": 1_010_000,
                "rounds": 3,
                "path": None,
            },
            {
                "strategy": "lazy-copy",
                "total_time_ms": 500.0,
                "downtime_ms": 2.0,
                "bytes": 40_000,
                "rounds": 0,
                "path": None,
                "note": "ends with the guest",
            },
        ],
        "downtime_limit_ms": 300.0,
        "choice": "pre-copy",
        "why": "it is over first",
        "taken": {
            "strategy": "pre-copy",
            "total_time_error": 0.02,
            "total_time_error_ms": 20.0,
            "downtime_error": -0.1,
            "downtime_error_ms": -10.0,
            "bytes_error": 0.01,
        },
    }
    return PredictionReport.model_validate(values | changes)
