"""Of a report: what was predicted, and how true it was."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pageferry.common.report.sections.base import ReportSection


class DirtyLook(ReportSection):
    """What had become dirty `t_ms` after the measuring began: distinct pages and 64-byte lines.

    bytes: what sending it would put on the wire.
    """

    t_ms: float
    pages: int
    lines: int
    bytes: int


class StrategyPrediction(ReportSection):
    """What a strategy was expected to cost. total_time_ms, bytes: of lazy copy, which ends with the

    guest, `--run-after` and the least that must be moved (`note` says so). converges: false of
    pre-copy whose rounds end before what is left fits in the downtime limit.
    """

    strategy: str
    total_time_ms: float
    downtime_ms: float
    bytes: int
    rounds: int
    path: int | None
    note: str | None = None
    converges: bool = True


class PredictionCheck(ReportSection):
    """How far the prediction of the strategy that was taken is from what was measured.

    *_error: predicted / measured - 1; *_error_ms: predicted - measured.
    """

    strategy: str
    total_time_error: float
    total_time_error_ms: float
    downtime_error: float
    downtime_error_ms: float
    bytes_error: float


class PredictionReport(ReportSection):
    """What each strategy was expected to cost before the migration began, and from what.

    measured_ms: for how long the guest was looked at; dirty_rate: distinct pages that it dirtied in
    that time, bytes per second; curve: how they gathered. bandwidth: what was reckoned with (null:
    no limit, and no page to probe with), and bandwidth_from why: the limit, `--assume-bandwidth`,
    or what a probe over loopback reached (`probed`, null where there was none). steps_per_s_*: the
    guest's speed before the measuring (null: it had not run) and meanwhile. not_predicted: options
    that the figures leave out. choice: the strategy that `--downtime-limit` speaks for. taken: null
    where the migration did not end, or where there was none.
    """

    measured_ms: float
    dirty_rate: float
    curve: list[DirtyLook]
    zero_pages: int
    bandwidth: float | None
    bandwidth_from: Literal["limit", "assumed", "loopback"]
    probed: float | None = None
    steps_per_s_before: float | None
    steps_per_s_while: float
    strategies: list[StrategyPrediction]
    downtime_limit_ms: float
    choice: str
    why: str
    not_predicted: list[str] = Field(default_factory=list)
    taken: PredictionCheck | None = None

    def to_json(self) -> str:
        """Indented JSON, one trailing newline."""
        return self.model_dump_json(indent=2) + "\n"
