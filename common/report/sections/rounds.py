"""Sections of a report about decisions, rounds, and the downtime in parts."""

from __future__ import annotations

from typing import Literal

from pageferry.common.report.sections.base import ReportSection


class DecisionReport(ReportSection):
    """What the strategy saw after a round, what it decided, and why.

    Attributes:
        after_round: The round; 0 before the first.
        dirty_pages: Pages of which the destination does not have the latest content.
        dirty_ratio: The same as a share of all pages; null before the first round.
        dirty_rate: How fast pages became dirty in the round, bytes per second.
        bandwidth: What the link was taken to carry, bytes per second; null where that was not
            known.
        expected_remainder_bytes: What a stop at this moment was expected to leave.
        expected_downtime_ms: What a stop at this moment was expected to cost.
        decision: What was decided.
        reason: Why, in a sentence.
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
    """One round.

    Attributes:
        index: Its number, from 1.
        kind: What it sent.
        pages: Pages sent with content.
        zero_pages: Pages sent as a mark.
        line_pages: Of `pages`, those that travelled as changed 64-byte lines only; null where pages
            can't go by line.
        lines: How many lines that were; null as `line_pages`.
        bytes_saved: What whole pages would have cost more; null as `line_pages`.
        delta_pages: Pages that travelled as a delta; null without `--delta`.
        drained_lines: Lines written back from the cache at the round's start; null without a cache.
        bytes: What the round put on the wire.
        start_ms: When it began.
        duration_ms: How long it took.
        dirty_pages_after: Pages of which the destination does not have the latest content after it.
        dirty_ratio_after: The same as a share of all pages.
        throttle: The most in this round of the share of its time in which `--auto-converge` kept
            the guest from running; null without it.
        pages_left: Pages that were to be sent and were not, as `--timeout` cut the round short.
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
    """A part of the downtime; parts come in order.

    Attributes:
        name: What was done in it.
        start_ms: When it began, after the first vCPU stopped.
        ms: How long it took.
    """

    name: PartName
    start_ms: float
    ms: float
