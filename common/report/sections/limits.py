"""Of a report: what bound it, and which limits it missed."""

from __future__ import annotations

from typing import Literal

from pageferry.common.report.sections.base import ReportSection


class BoundReport(ReportSection):
    """What held the pages up. link_Bps: what one connection over the link carries, null where no

    rate of it is known; limit_Bps: `--max-bandwidth`, null where there was none.
    """

    by: Literal["link", "max-bandwidth"]
    limit_Bps: float | None
    link_Bps: float | None


class LimitMissed(ReportSection):
    """A limit that was not kept: of the user, or by which the strategy stops.

    limit: the option's name in `config`; limit_ms: what it says, measured_ms: what it was. why: a
    clause.
    """

    limit: Literal["downtime_limit", "timeout"]
    limit_ms: float
    measured_ms: float
    why: str
