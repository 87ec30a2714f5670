"""Sections of a report about where in memory it happened."""

from __future__ import annotations

from pageferry.common.report.sections.base import ReportSection


class ActivityColumn(ReportSection):
    """What happened to the guest's pages between `t_ms` and `t_ms + duration_ms`, by page bin.

    Each list has an entry for each bin and counts pages.

    Attributes:
        t_ms: When the column begins.
        duration_ms: How long it is.
        phase: The round's kind, or `post-copy`.
        dirtied: Stale at the column's end; null after the switch, where nobody looks.
        sent: Sent by the source, or placed at the destination once the guest runs there.
        faulted: Pages that the guest had to wait for.
    """

    t_ms: float
    duration_ms: float
    phase: str
    dirtied: list[int] | None
    sent: list[int]
    faulted: list[int]


class HotPage(ReportSection):
    """One page's counts, as in `PagesReport`.

    Attributes:
        page: Its number.
        writes: Lines that the guest wrote; null without `--count-writes`.
        write_backs: Lines that reached memory; null without `--count-writes`.
        sends: How often it went over the wire.
    """

    page: int
    writes: int | None
    write_backs: int | None
    sends: int


class PagesReport(ReportSection):
    """Where in memory things happened. Bin i holds pages [i * pages_per_bin, ...).

    `writes` - `write_backs` is what the cache absorbed, or still holds. Without a cache the two are
    equal; they are null without `--count-writes`.

    Attributes:
        pages_per_bin: Pages in each bin.
        writes: By bin, 64-byte lines that the guest wrote at the source during the migration, the
            cache's hits counted, and those that the cache held dirty when it began.
        write_backs: By bin, lines that reached memory there.
        sends: By bin, how often pages went over the wire.
        writes_total, write_backs_total: The same of all memory.
        hottest: The pages that were sent most often, most writes first among equals.
        activity: What happened when.
    """

    pages_per_bin: int
    writes: list[int] | None
    write_backs: list[int] | None
    sends: list[int]
    writes_total: int | None
    write_backs_total: int | None
    hottest: list[HotPage]
    activity: list[ActivityColumn]
