"""The report of one migration: the schema that programs read.

Times are milliseconds (floats), sizes bytes (integers), rates bytes per second. `t_ms` counts from
the migration's start, on the source's clock; what happened before it is negative. What was not
asked for, or not measured, is null: 0 is always a measured nothing. A field has one type.

**Downtime** is the time between the moment when the first vCPU stopped at the source and the moment
when the last vCPU began at the destination, both stamped by the vCPUs themselves, clock offset
removed. It includes the other vCPUs' last quantum, the drain of the cache, the last pages, the
snapshot, and the resume. **Total time** goes from the migration's start (the guest is running, the
connection is set up) to the moment when the source is no longer needed: the destination's word that
it runs the guest, in post-copy that no page is missing. `setup_ms` lies before it.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from pageferry.common.report.methods import ReportMethods
from pageferry.common.report.sections.base import ReportSection
from pageferry.common.report.sections.compression import CompressionReport, XbzrleReport
from pageferry.common.report.sections.estimates import (
    BurstinessReport,
    EstimateReport,
    OracleReport,
)
from pageferry.common.report.sections.guest import CacheReport, CpuReport, GuestReport
from pageferry.common.report.sections.limits import BoundReport, LimitMissed
from pageferry.common.report.sections.memory import PagesReport
from pageferry.common.report.sections.network import NetReport
from pageferry.common.report.sections.postcopy import PostcopyReport
from pageferry.common.report.sections.prediction import PredictionReport
from pageferry.common.report.sections.rounds import DecisionReport, DowntimePart, RoundReport

Outcome = Literal["completed", "failed", "cancelled", "in-doubt", "lost"]


class EventReport(ReportSection):
    """One event of either agent; its own fields stand beside these three.

    Attributes:
        t_ms: When it happened.
        agent: Whose event it is.
        event: Its kind.
    """

    model_config = ConfigDict(extra="allow")

    t_ms: float
    agent: Literal["source", "dest"]
    event: str


class Report(ReportMethods, ReportSection):
    """Everything that is known about one migration.

    Attributes:
        schema_version: Of this schema.
        session: The id of the session.
        strategy: The strategy's name.
        path: 1, 2 or 3 of `three-path`; null where none was taken.
        outcome: How the migration ended.
        error: Why it did not end well, in one line.
        date: When the session began, or the simulation was made: UTC, ISO 8601.
        command: The command line that made it, as a shell reads it; for a cell of a sweep, the one
            that would make it alone.
        converged: Whether rounds ended because a stop fitted the downtime limit; false where
            `--max-rounds` or `--timeout` ended them, null for a strategy whose rounds do not go on
            until then.
        limits_missed: Limits that were not kept; empty where none was missed.
        config: Every option as used, beside versions, hosts, kernel, and the processors' models.
        downtime_ms: From the first vCPU's stop at the source to the last one's start at the
            destination.
        downtime_error_ms: How wrong it may be, as it is measured by two clocks.
        downtime_parts: What the downtime consists of, in order.
        total_time_ms: From the migration's start until the source is no longer needed.
        setup_ms: How long connecting and preparing took before that.
        decisions: What the strategy decided, in order.
        rounds: What was sent while the guest ran, and the last pages.
        bytes_on_wire: Bytes of all connections in both directions, our headers counted, those of
            TCP/IP not.
        pages_sent: Pages that were sent with content, each time that they were.
        zero_pages: Pages that were sent as a mark.
        pages_resent: How often a page was sent that had been sent before.
        lines_sent: 64-byte lines that travelled alone; null where pages can't go by line.
        bytes_saved: What whole pages would have cost more; null as `lines_sent`.
        pages: Where in memory it happened.
        estimates: What other ways would have cost.
        oracle: The least that any strategy could have done.
        prediction: What was predicted before the migration.
        postcopy: The guest with pages missing; null where it never ran so.
        guest: The guest's speed.
        cache: The guest's cache.
        compression: What `--compress` did.
        xbzrle: What `--delta` did.
        cpu_s: CPU time of both agents.
        burstiness: How evenly bytes left the source.
        net: The shaped link, where there was one.
        bound: What held the pages up; null where the link has no rate that is known.
        verified: Whether the digests of both ends are equal; null where that was not checked.
        digest_source: The digest of the guest that was replayed at the source.
        digest_dest: The digest of the guest at the destination.
        events: Of both agents.
    """

    schema_version: Literal[1] = 1
    session: str
    strategy: str
    path: int | None
    outcome: Outcome
    error: str | None = None
    date: str | None = None
    command: str | None = None
    converged: bool | None = None
    limits_missed: list[LimitMissed] = Field(default_factory=list)
    config: dict[str, Any]
    downtime_ms: float | None = None
    downtime_error_ms: float | None = None
    downtime_parts: list[DowntimePart] = Field(default_factory=list)
    total_time_ms: float | None = None
    setup_ms: float | None = None
    decisions: list[DecisionReport] = Field(default_factory=list)
    rounds: list[RoundReport] = Field(default_factory=list)
    bytes_on_wire: int = 0
    pages_sent: int = 0
    zero_pages: int = 0
    pages_resent: int = 0
    lines_sent: int | None = None
    bytes_saved: int | None = None
    pages: PagesReport | None = None
    estimates: list[EstimateReport] = Field(default_factory=list)
    oracle: OracleReport | None = None
    prediction: PredictionReport | None = None
    postcopy: PostcopyReport | None = None
    guest: GuestReport = Field(default_factory=GuestReport)
    cache: CacheReport | None = None
    compression: CompressionReport | None = None
    xbzrle: XbzrleReport | None = None
    cpu_s: CpuReport | None = None
    burstiness: BurstinessReport | None = None
    net: NetReport | None = None
    bound: BoundReport | None = None
    verified: bool | None = None
    digest_source: str | None = None
    digest_dest: str | None = None
    events: list[EventReport] = Field(default_factory=list)

    def to_json(self) -> str:
        """Write the report as JSON.

        Returns:
            Indented JSON, one trailing newline.
        """
        return self.model_dump_json(indent=2) + "\n"
