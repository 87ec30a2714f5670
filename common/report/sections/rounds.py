"""Of a report: decisions, rounds, and the downtime in parts."""

from __future__ import annotations

from typing import Literal

from pageferry.common.report.sections.base import ReportSection


class DecisionReport(ReportSection):
    """What the strategy saw after a round, what it decided, and why.

    dirty_ratio: pages of which the destination has not the latest content, of all pages; null
    before the first round. expected_*: what a stop at this moment was expected to leave and cost.
    """

    after_round: int
    dirty_pages: int | None = None
    dirty_ratio: float | None = None
    dirty_rate: float | None = None
    bandwidth: float | None = None
    expected_remainder_bytes: int | None = None
    expected_downtime_ms: float | None = None
    decision: str
    reason: str


class RoundReport(ReportSection):
    """One round. pages: sent with content; zero_pages: sent as a mark.

    line_pages: of `pages`, those that travelled as changed 64-byte lines only; lines: how many
    lines that were; bytes_saved: what whole pages would have cost more; null where pages can't go
    by line. delta_pages: null without `--delta`. drained_lines: written back from the cache at the
    round's start; null without a cache. throttle: the most in this round of the share of its time
    in which `--auto-converge` kept the guest from running; null without it. pages_left: that were
    to be sent and were not, as `--timeout` cut the round short.
    """

    index: int
    kind: Literal["full", "dirty", "drain", "final"]
    pages: int
    zero_pages: int
    line_pages: int | None = None
    lines: int | None = None
    bytes_saved: int | None = None
    delta_pages: int | None = None
    drained_lines: int | None = None
    bytes: int
    start_ms: float
    duration_ms: float
    dirty_pages_after: int
    dirty_ratio_after: float
    throttle: float | None = None
    pages_left: int = 0


PartName = Literal["pause", "drain", "last pages", "snapshot and commit", "resume"]


class DowntimePart(ReportSection):
    """A part of the downtime: `start_ms` after the first vCPU stopped, `ms` long. In order."""

    name: PartName
    start_ms: float
    ms: float
