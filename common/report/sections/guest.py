"""Sections of a report about the guest, its cache, and what its agents used."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pageferry.common.report.sections.base import ReportSection


class TimelineSample(ReportSection):
    """The guest's speed over one sampling interval that ended at `t_ms`.

    Attributes:
        t_ms: When the interval ended.
        steps_per_s: The guest's speed in it.
        dirty_pages_per_s: Pages dirtied a second; null where a simulation has no figure for it.
        where: At which host the guest ran.
    """

    t_ms: float
    steps_per_s: float
    dirty_pages_per_s: float | None
    where: Literal["source", "dest"]


class GuestReport(ReportSection):
    """The guest as its own witness.

    *before* is from its start, or from the beginning of the session, to the migration's start (null
    without `--warmup` or `--predict`). *during* is from there to the resume, the downtime counted,
    and nothing of what comes after it: for a post-copy without rounds that is a few milliseconds.
    *after* is from the resume until the guest was stopped, waiting for pages counted (null without
    `--run-after`, unless it ran with pages missing).

    Attributes:
        steps_before, steps_during, steps_after: Steps of all vCPUs in each of these times.
        steps_per_s_before, steps_per_s_during, steps_per_s_after: The guest's speed in each.
        longest_gap_ms: The longest time between two beats of one vCPU while it should have run, the
            hand-over counted. A vCPU beats once a quantum (a few hundred microseconds of work):
            several faults within one quantum are one gap, which may be longer than the longest
            fault.
        longest_gap_start_ms: When that gap began.
        throttle_peak: The most that auto-converge throttled it; null without auto-converge.
        slowed_ms: What all its vCPUs slept at the source because it was throttled, or dirtied more
            than `--dirty-limit` (a workload's schedule that runs slower is no sleep); null where
            neither was asked for.
        lost: The share of its speed that it lost between the migration's start and its end,
            downtime, waiting for pages and recovery counted (for lazy copy until the guest was
            stopped). Negative where it was faster than before; null where its speed before is not
            known.
        below_half_ms: For how much of that time it ran at less than half of its speed before, the
            downtime counted, from samples of about 100 ms.
        runs_at: Where the guest runs when the session ends.
        check: What the workload's own check of memory found wrong; null: nothing, or it has no
            check.
        timeline: Its speed over time.
    """

    steps_before: int | None = None
    steps_during: int | None = None
    steps_after: int | None = None
    steps_per_s_before: float | None = None
    steps_per_s_during: float | None = None
    steps_per_s_after: float | None = None
    longest_gap_ms: float | None = None
    longest_gap_start_ms: float | None = None
    throttle_peak: float | None = None
    slowed_ms: float | None = None
    lost: float | None = None
    below_half_ms: float | None = None
    runs_at: Literal["source", "dest", "nowhere", "unknown"] = "source"
    check: str | None = None
    timeline: list[TimelineSample] = Field(default_factory=list)


class CacheReport(ReportSection):
    """Counts of the cache over both hosts.

    Attributes:
        hits: Accesses that found their line in the cache.
        misses: Accesses that did not.
        write_backs: Lines written back to memory.
        spills: Write-backs that were forced while they were held.
        drained_lines: Lines written back by drains.
    """

    hits: int
    misses: int
    write_backs: int
    spills: int
    drained_lines: int


class CpuReport(ReportSection):
    """CPU seconds of each agent during the migration, its vCPUs not counted.

    Attributes:
        source: Of the source agent.
        dest: Of the destination agent; null where it did not say.
    """

    source: float
    dest: float | None
