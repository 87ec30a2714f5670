"""The report's pages: where in memory the migration was at work."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from pageferry.common.clock import ClockMap
from pageferry.common.report.page_bins import MOST_COLUMNS
from pageferry.common.report.sections.memory import ActivityColumn, HotPage, PagesReport
from pageferry.common.wire.results import WireActivity
from pageferry.source_agent.measurements import Measurements
from pageferry.source_agent.precopy.activity import Activity, RoundActivity

_HOTTEST = 20


def pages_report(record: Measurements) -> PagesReport | None:
    """Report where in memory the migration was at work.

    Args:
        record: Of a migration that may have ended in any way.

    Returns:
        None before the first round.
    """
    activity = record.precopy.rounds.activity if record.precopy.rounds else None
    if activity is None or record.times.start_ns == 0:
        return None
    binning, sends = activity.binning, activity.sends
    counts = record.guest.seen.counts if record.guest.seen else None
    writes, write_backs = (None, None) if counts is None else (counts[0], counts[1])
    return PagesReport(
        pages_per_bin=binning.per_bin,
        writes=None if writes is None else binning.add_up(writes).tolist(),
        write_backs=None if write_backs is None else binning.add_up(write_backs).tolist(),
        sends=binning.add_up(sends).tolist(),
        writes_total=None if writes is None else int(writes.sum()),
        write_backs_total=None if write_backs is None else int(write_backs.sum()),
        hottest=_hottest(activity, counts),
        activity=_columns(record, activity),
    )


def _hottest(activity: Activity, counts: np.ndarray | None) -> list[HotPage]:
    """List pages that went more than once: most sends first, most writes first among equals."""
    sends = activity.sends
    again = np.flatnonzero(sends > 1)
    writes, backs = (np.zeros_like(sends, np.uint64),) * 2 if counts is None else counts
    order = np.lexsort((again, -writes[again].astype(np.int64), -sends[again].astype(np.int64)))
    return [
        HotPage(
            page=int(page),
            writes=None if counts is None else int(writes[page]),
            write_backs=None if counts is None else int(backs[page]),
            sends=int(sends[page]),
        )
        for page in again[order[:_HOTTEST]]
    ]


def _columns(record: Measurements, activity: Activity) -> list[ActivityColumn]:
    out = [_round(record, column) for column in activity.columns[:MOST_COLUMNS]]
    finished, clock = record.result.finished, record.connection.clock
    part = finished.postcopy if finished else None
    if part is not None and clock is not None:
        out += _after_the_switch(record, clock, part.activity)
    return out


def _ms(record: Measurements, t_ns: int) -> float:
    return (t_ns - record.times.start_ns) / 1e6


def _round(record: Measurements, column: RoundActivity) -> ActivityColumn:
    return ActivityColumn(
        t_ms=_ms(record, column.start_ns),
        duration_ms=(column.end_ns - column.start_ns) / 1e6,
        phase=column.phase,
        dirtied=column.dirtied.tolist(),
        sent=column.sent.tolist(),
        faulted=[0] * len(column.sent),
    )


def _after_the_switch(
    record: Measurements, clock: ClockMap, samples: list[WireActivity]
) -> list[ActivityColumn]:
    """Make a column of each time between two looks: what came, and what was waited for.

    There is none after everything has come.
    """
    return [
        ActivityColumn(
            t_ms=_ms(record, clock.to_local(before.t_ns)),
            duration_ms=(now.t_ns - before.t_ns) / 1e6,
            phase="post-copy",
            dirtied=None,
            sent=[was - left for was, left in zip(before.missing, now.missing, strict=True)],
            faulted=now.faulted,
        )
        for before, now in pairwise(samples)
        if any(before.missing)
    ]
