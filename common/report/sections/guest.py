"""Of a report: the guest, its cache, and what its agents used."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pageferry.common.report.sections.base import ReportSection


class TimelineSample(ReportSection):
    """The guest's speed over one sampling interval that ended at `t_ms`.

    dirty_pages_per_s: null where a simulation has no figure for it.
    """

    t_ms: float
    steps_per_s: float
    dirty_pages_per_s: float | None
    where: Literal["source", "dest"]


class GuestReport(ReportSection):
    """The guest as its own witness.

    before: from its start, or from the beginning of the session, to the migration's start (null
    without `--warmup`); during: from there to the resume, the downtime counted, and nothing of what
    comes after it: of a post-copy without rounds that is a few milliseconds; after: from the resume
    until the guest was stopped, waiting for pages counted (null without `--run-after`, unless it
    waited for pages).

    longest_gap_ms: the longest time between two beats of one vCPU while it should have run, the
    hand-over counted. A vCPU beats once a quantum (a few hundred microseconds of work): several
    faults within one quantum are one gap, which may be longer than the longest fault.

    throttle_peak: the most that auto-converge throttled it; slowed_ms: what all its vCPUs slept at
    the source because it was throttled, or dirtied more than `--dirty-limit` (that a workload's
    schedule goes slower is no sleep); null where neither was asked for.

    lost: the share of its speed that it lost between the migration's start and its end, downtime,
    waiting for pages and recovery counted (of lazy copy until the guest was stopped); negative
    where it was faster than before; null where its speed before is not known. below_half_ms: for
    how much of that time it ran at less than half of its speed before, the downtime counted, from
    samples of about 100 ms.
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
    """Counts over both hosts. spills: write-backs forced while held."""

    hits: int
    misses: int
    write_backs: int
    spills: int
    drained_lines: int


class CpuReport(ReportSection):
    """CPU seconds of each agent during the migration, its vCPUs not counted."""

    source: float
    dest: float | None
