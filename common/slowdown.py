"""What a migration cost its guest: the share of its speed that it lost."""

from __future__ import annotations

from common.report import Report


def slowdown(report: Report) -> float | None:
    """The share of its speed that the guest lost between the migration's start and its end.

    1 is a guest that stood still all the time. Steps at both hosts are counted over the whole of
    the total time: downtime and, in post-copy, waiting for pages are in it. None where the guest's
    speed before is not known (no warm-up).
    """
    guest, total_ms = report.guest, report.total_time_ms
    if total_ms is None or total_ms <= 0 or guest.steps_per_s_before <= 0:
        return None
    steps = guest.steps_during + _steps_at_destination(report, total_ms)
    return 1 - steps / (guest.steps_per_s_before * total_ms / 1e3)


def _steps_at_destination(report: Report, end_ms: float) -> float:
    """Steps from the resume until nothing was missing; none where that is the same moment."""
    if report.postcopy is None:
        return 0.0
    begin_ms = end_ms - report.postcopy.duration_ms
    steps = 0.0
    for sample in report.guest.timeline:
        if sample.where == "dest" and sample.t_ms > begin_ms:
            until_ms = min(sample.t_ms, end_ms)
            steps += max(0.0, until_ms - begin_ms) / 1e3 * sample.steps_per_s
            begin_ms = sample.t_ms
    return steps
