"""The report of one migration: the schema that programs read.

Times are milliseconds (floats), sizes bytes (integers), rates bytes per second. `t_ms` counts from
the migration's start, on the source's clock; what happened before it is negative. What was not
asked for, or not measured, is null: 0 is always a measured nothing. A field has one type.

**Downtime** is the time between the moment when the first vCPU stopped at the source and the moment
when the last vCPU began at the destination, both stamped by the vCPUs themselves, clock offset
removed. In it lie: the other vCPUs' last quantum, the drain of the cache, the last pages, the
snapshot, and the resume. **Total time** goes from the migration's start (the guest is running, the
connection is set up) to the destination's word that it runs the guest; `setup_ms` lies before it.
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
    """One event of either agent; its own fields stand beside these three."""

    model_config = ConfigDict(extra="allow")

    t_ms: float
    agent: Literal["source", "dest"]
    event: str


class Report(ReportMethods, ReportSection):
    """Everything that is known about one migration.

    date: when the session began, or the simulation was made: UTC, ISO 8601. command: the command
    line that made it, as a shell reads it; of a cell of a sweep, the one that would make it alone.
    config: every option as used, beside versions, hosts, kernel, and the processors' models.
    converged: whether rounds ended because a stop fitted the downtime limit; false where
    `--max-rounds` or `--timeout` ended them, null of a strategy whose rounds do not go on until
    then. limits_missed: empty where none was. bound: null where the link has no rate that is known.
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
        """Indented JSON, one trailing newline."""
        return self.model_dump_json(indent=2) + "\n"
