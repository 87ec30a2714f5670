"""Of a report: where in memory it happened."""

from __future__ import annotations

from pageferry.common.report.sections.base import ReportSection


class ActivityColumn(ReportSection):
    """What happened to the guest's pages between `t_ms` and `t_ms + duration_ms`, by page bin.

    Each list is as long as there are bins and counts pages. dirtied: stale at the column's end,
    null after the switch, where nobody looks; sent: sent by the source, or placed at the
    destination once the guest runs there; faulted: that the guest had to wait for.
    """

    t_ms: float
    duration_ms: float
    phase: str
    dirtied: list[int] | None
    sent: list[int]
    faulted: list[int]


class HotPage(ReportSection):
    """One page's counts, as in `PagesReport`."""

    page: int
    writes: int | None
    write_backs: int | None
    sends: int


class PagesReport(ReportSection):
    """Where in memory things happened. Bin i holds pages [i * pages_per_bin, ...).

    writes: 64-byte lines that the guest wrote at the source during the migration, the cache's hits
    counted, and those that the cache held dirty when it began; write_backs: lines that reached
    memory there; sends: times that a page went over the wire. writes - write_backs is what the
    cache absorbed, or still holds. Without a cache the two are equal; null without
    `--count-writes`. `hottest`:
    the pages that were sent most often, most writes first among equals.
    """

    pages_per_bin: int
    writes: list[int] | None
    write_backs: list[int] | None
    sends: list[int]
    writes_total: int | None
    write_backs_total: int | None
    hottest: list[HotPage]
    activity: list[ActivityColumn]
