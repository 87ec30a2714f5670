"""Sections of a report about what held it back, and which limits it missed."""

from __future__ import annotations

from typing import Literal

from pageferry.common.report.sections.base import ReportSection


class BoundReport(ReportSection):
    """What held the pages up.

    Attributes:
        by: The lower of the two limits.
        limit_Bps: `--max-bandwidth`; null where there was none.
        link_Bps: What one connection over the link carries; null where no rate of it is known.
    """

    by: Literal["link", "max-bandwidth"]
    limit_Bps: float | None
    link_Bps: float | None


class LimitMissed(ReportSection):
    """A limit that was not kept: one of the user's, or one by which the strategy stops.

    Attributes:
        limit: The option's name in `config`.
        limit_ms: What it says.
        measured_ms: What it was.
        why: A clause.
    """

    limit: Literal["downtime_limit", "timeout"]
    limit_ms: float
    measured_ms: float
    why: str
