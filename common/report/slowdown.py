"""What a migration cost its guest: the share of its speed that it lost, and how long it crept."""

from __future__ import annotations

from collections.abc import Iterator

from pageferry.common.report.schema import Report

HALF = 0.5  # of its speed before: below that it creeps


def slowdown(report: Report) -> float | None:
    """Compute the share of its speed that the guest lost between the migration's start and its end.

    Steps at both hosts are counted over the whole total time: downtime and, in post-copy, waiting
    for pages until none is missing (recovered connections, too) are in it. A guest that was stopped
    before the end, as with lazy copy, is looked at until then.

    Args:
        report: Of one run.

    Returns:
        1 is a guest that stood still all the time; below 0 it was faster than before. None where
        the guest's speed before is not known (no warm-up), or the guest did not move.
    """
    guest, total_ms, before = report.guest, report.total_time_ms, report.guest.steps_per_s_before
    if total_ms is None or total_ms <= 0 or not before or guest.steps_during is None:
        return None
    steps = guest.steps_during + sum(ms / 1e3 * speed for ms, speed in _at_destination(report))
    return 1 - steps / (before * _end_ms(report, total_ms) / 1e3)


def _end_ms(report: Report, total_ms: float) -> float:
    """Return until when the guest is looked at: it may have been stopped before the end."""
    if report.postcopy is None:
        return total_ms
    there = [sample.t_ms for sample in report.guest.timeline if sample.where == "dest"]
    resumed_ms = total_ms - report.postcopy.duration_ms
    return min(total_ms, there[-1]) if there and there[-1] > resumed_ms else total_ms


def below_half_ms(report: Report) -> float | None:
    """Compute for how long the guest ran at less than half of its speed before.

    The downtime counts; beside it, samples of about 100 ms are all that is known.

    Args:
        report: Of one run.

    Returns:
        Milliseconds of the total time; None as `slowdown`.
    """
    before = report.guest.steps_per_s_before
    if slowdown(report) is None or not before or report.downtime_ms is None:
        return None
    stretches = [*_at_source(report), *_at_destination(report)]
    return report.downtime_ms + sum(ms for ms, speed in stretches if speed < HALF * before)


def fill_slowdown(report: Report) -> None:
    """Put both figures into a report.

    Args:
        report: Its `guest.lost` and `guest.below_half_ms` are set.
    """
    report.guest.lost = slowdown(report)
    report.guest.below_half_ms = below_half_ms(report)


def _at_source(report: Report) -> Iterator[tuple[float, float]]:
    """Yield (milliseconds, steps a second) of each sample between the start and the stop."""
    after_ms = report.postcopy.duration_ms if report.postcopy else 0.0
    stop_ms = (report.total_time_ms or 0.0) - after_ms - (report.downtime_ms or 0.0)
    yield from _stretches(report, "source", 0.0, stop_ms)


def _at_destination(report: Report) -> Iterator[tuple[float, float]]:
    """Yield the same from the resume until nothing was missing; none where that is one moment."""
    if report.postcopy is not None and report.total_time_ms is not None:
        end_ms = report.total_time_ms
        yield from _stretches(report, "dest", end_ms - report.postcopy.duration_ms, end_ms)


def _stretches(
    report: Report, where: str, begin_ms: float, end_ms: float
) -> Iterator[tuple[float, float]]:
    """Yield the same of the samples at one host, cut to a time."""
    for sample in report.guest.timeline:
        if sample.where == where and sample.t_ms > begin_ms:
            until_ms = min(sample.t_ms, end_ms)
            yield max(0.0, until_ms - begin_ms), sample.steps_per_s
            begin_ms = sample.t_ms
