"""Sections of a report about what was predicted, and how well that held."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pageferry.common.report.sections.base import ReportSection


class DirtyLook(ReportSection):
    """What had become dirty `t_ms` after the measuring began.

    Attributes:
        t_ms: When it was looked at, since the measuring began.
        pages: Distinct pages.
        lines: Distinct 64-byte lines.
        bytes: What sending it would put on the wire.
    """

    t_ms: float
    pages: int
    lines: int
    bytes: int


class StrategyPrediction(ReportSection):
    """What a strategy was expected to cost.

    Lazy copy ends with the guest: its `total_time_ms` is that of `--run-after`, its `bytes` are the
    least that must be moved (`note` says so).

    Attributes:
        strategy: The strategy's name.
        total_time_ms: Expected total time.
        downtime_ms: Expected downtime.
        bytes: Expected bytes on the wire.
        rounds: Expected rounds.
        path: The path of `three-path`; null for others.
        note: How the figures are to be read.
        converges: False for a strategy that goes on until a stop fits the downtime limit, and whose
            rounds end before one does.
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

    Attributes:
        strategy: The strategy that was taken.
        total_time_error, downtime_error, bytes_error: Predicted / measured - 1.
        total_time_error_ms, downtime_error_ms: Predicted - measured.
    """

    strategy: str
    total_time_error: float
    total_time_error_ms: float
    downtime_error: float
    downtime_error_ms: float
    bytes_error: float


class PredictionReport(ReportSection):
    """What each strategy was expected to cost before the migration began, and from what.

    Attributes:
        measured_ms: For how long the guest was looked at.
        dirty_rate: Distinct pages that it dirtied in that time, bytes per second.
        curve: How they gathered.
        zero_pages: Pages that would travel as a mark.
        bandwidth: What it was calculated with; null: no limit, and no page to probe with.
        bandwidth_from: Why: the limit, `--assume-bandwidth`, or what a probe over loopback reached.
        probed: What the probe reached; null where there was none.
        steps_per_s_before: The guest's speed before the measuring; null: it had not run.
        steps_per_s_while: The guest's speed during the measuring.
        strategies: What each strategy was expected to cost.
        downtime_limit_ms: `--downtime-limit`.
        choice: The strategy that `--downtime-limit` speaks for.
        why: Why that one.
        not_predicted: Options that the figures leave out.
        taken: How well it held; null where the migration did not end, or where there was none.
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
        """Write the prediction as JSON.

        Returns:
            Indented JSON, one trailing newline.
        """
        return self.model_dump_json(indent=2) + "\n"
