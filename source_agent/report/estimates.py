"""What other ways would have cost this guest on this link, from what this run measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from statistics import median
from typing import Final

from pageferry.common.report.sections.estimates import EstimateReport, OracleReport
from pageferry.common.strategy import (
    Decision,
    Hybrid,
    NextRound,
    PostCopy,
    PreCopy,
    RoundStats,
    StopAndCopyStrategy,
    Strategy,
    ThreePath,
)
from pageferry.common.strategy.carrying import MEASURABLE_BYTES
from pageferry.common.strategy.conditions import Conditions, Stale, StaleCurve
from pageferry.common.strategy.forecast import AsTaken, Cost, play_strategy
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire.bitmap import count_pages
from pageferry.common.wire.extents import EXTENT
from pageferry.source_agent.measurements import Measurements
from pageferry.source_agent.precopy.rounds import Round

_PAGE_BYTES: Final = PAGE_SIZE + EXTENT.itemsize
_LEAST_S: Final = 1e-4  # a switchover always takes some time, whatever two clocks may say
_NEARLY_ALL: Final = 0.8
_APART: Final = 1.1  # a curve takes points that are closer than that for one
_Point = tuple[float, float]


def estimates(record: Measurements, downtime_s: float | None) -> list[EstimateReport]:
    """Estimate what each way would have cost.

    Where a round was cut short, the way that was taken is not one that a strategy takes: it is left
    out, and its strategy is estimated as it would have been without that.

    Args:
        record: Of a migration that may have ended in any way.
        downtime_s: Its measured downtime; None: not known.

    Returns:
        Empty where the run did not come far enough to know its link and its guest.
    """
    under = _conditions(record, downtime_s)
    if under is None or downtime_s is None:
        return []
    taken = _taken(record)
    ways = _ways(record)
    if taken in ways:
        ways[taken] = lambda: AsTaken(record.config, _decisions(record), _path(record))
    return [
        _estimate(record, name, play_strategy(make(), under), name == taken, downtime_s)
        for name, make in ways.items()
    ]


def _decisions(record: Measurements) -> list[Decision]:
    """Return the decisions as carried out: a guest may have been throttled more in a round."""
    out: list[Decision] = []
    for order, after in pairwise([*record.precopy.decisions, None]):
        made = order.decision if order is not None else None
        if isinstance(made, NextRound) and after is not None and after.stats is not None:
            made = replace(made, throttle=after.stats.throttle)
        if made is not None:
            out.append(made)
    return out


def oracle(
    record: Measurements, downtime_s: float | None, bytes_on_wire: int
) -> OracleReport | None:
    """Compute the least that any strategy could have done.

    Args:
        record: Of a migration that may have ended in any way.
        downtime_s: Its measured downtime; None: not known.
        bytes_on_wire: What all of its connections carried.

    Returns:
        The least, and how far the run was from it; None where it is not known.
    """
    under = _conditions(record, downtime_s)
    if under is None or downtime_s is None:
        return None
    total_s = (
        (record.times.completed_ns - record.times.start_ns) / 1e9
        if record.times.completed_ns
        else 0.0
    )
    least_total_s = under.full_bytes / under.bandwidth_Bps + under.switchover_s
    return OracleReport(
        least_bytes=under.full_bytes,
        least_downtime_ms=under.switchover_s * 1e3,
        least_total_time_ms=least_total_s * 1e3,
        bytes_ratio=bytes_on_wire / under.full_bytes,
        downtime_ratio=downtime_s / under.switchover_s,
        total_time_ratio=total_s / least_total_s,
    )


def _taken(record: Measurements) -> str | None:
    """Name the way that was taken; None where no estimate is made of it."""
    if any(
        each.pages_left for each in (record.precopy.rounds.done if record.precopy.rounds else [])
    ):
        return None
    path = _path(record)
    return record.config.strategy if path is None else f"path {path}"


def _path(record: Measurements) -> int | None:
    return record.precopy.strategy.path if record.precopy.strategy else None


def _ways(record: Measurements) -> dict[str, Callable[[], Strategy]]:
    config = record.config
    ways: dict[str, Callable[[], Strategy]] = {
        f"path {path}": lambda path=path: ThreePath(config, forced=path)  # type: ignore[misc]
        for path in (1, 2, 3)
    }
    for kind in (PreCopy, StopAndCopyStrategy, PostCopy):
        ways[kind.name] = lambda kind=kind: kind(config)  # type: ignore[misc]
    if config.strategy == Hybrid.name:
        ways[Hybrid.name] = lambda: Hybrid(config)
    return ways


def _estimate(
    record: Measurements, name: str, cost: Cost, taken: bool, downtime_s: float
) -> EstimateReport:
    report = EstimateReport(
        name=name,
        taken=taken,
        downtime_ms=cost.downtime_s * 1e3,
        total_time_ms=cost.total_s * 1e3,
        bytes=cost.bytes,
        rounds=cost.rounds,
    )
    if taken and record.times.completed_ns:
        total_s = (record.times.completed_ns - record.times.start_ns) / 1e9
        if record.precopy.final is not None and record.precopy.final.round is not None:
            # After a switch nothing is sent in the stop: the estimate is what was measured.
            report.error_downtime = cost.downtime_s / downtime_s - 1
        report.error_total_time = cost.total_s / total_s - 1
        report.error_bytes = cost.bytes / max(moved_bytes(record), 1) - 1
    return report


def moved_bytes(record: Measurements) -> int:
    """Compute what pages cost on the wire, in rounds and after a switch.

    Args:
        record: Of a migration that may have ended in any way.

    Returns:
        Bytes, without handshakes and control messages.
    """
    rounds = record.precopy.rounds.done if record.precopy.rounds else []
    bulk = sum(each.totals.bytes for each in rounds)
    return bulk + _moved_after(record)


def _moved_after(record: Measurements) -> int:
    """Compute what pages cost after a switch."""
    pushed = (
        record.postcopy.pushed * _PAGE_BYTES
        if record.postcopy.pushed_bytes is None
        else record.postcopy.pushed_bytes
    )
    return pushed + record.postcopy.pulled * _PAGE_BYTES


# -- link and guest as this run saw them ----------------------------------------------------------


def _conditions(record: Measurements, downtime_s: float | None) -> Conditions | None:
    if (
        record.precopy.rounds is None
        or record.precopy.final is None
        or not record.times.completed_ns
    ):
        return None
    if downtime_s is None or downtime_s <= 0:
        return None
    bandwidth = _bandwidth(record, downtime_s)
    if bandwidth is None:
        return None
    final = record.precopy.final.round
    last_s = _last_pages_s(record)
    switchover_s = max(downtime_s - last_s, _LEAST_S)
    rounds = [each for each in record.precopy.rounds.done if each is not final]
    full_bytes = _full_bytes(record)
    if full_bytes is None:
        return None
    extra = [
        max((each.end_ns - each.start_ns) / 1e9 - each.totals.bytes / bandwidth, 0.0)
        for each in rounds[1:]
        if not each.pages_left
    ]
    pages = record.config.guest.pages
    return Conditions(
        pages_total=pages,
        full_bytes=full_bytes,
        missing_page_bytes=_PAGE_BYTES * _pushed_ratio(record),
        bandwidth_Bps=bandwidth,
        round_s=median(extra) if extra else 0.0,
        decide_s=_decide_s(record.precopy.rounds.done),
        switchover_s=switchover_s,
        last_bytes=final.totals.bytes if final else 0,
        last_s=last_s,
        stale=_staleness(record),
    )


def _full_bytes(record: Measurements) -> int | None:
    """Compute what sending all of memory once takes; None where it has not all been sent.

    It is what the first round sent, unless that was cut short or there was none: then each page
    that did not travel as a mark counts, once.
    """
    assert record.precopy.rounds is not None  # noqa: S101
    first = record.precopy.rounds.done[0] if record.precopy.rounds.done else None
    if first is not None and not first.pages_left:
        return first.totals.bytes
    after = record.result.finished.postcopy if record.result.finished else None
    if after is not None and after.missing is not None and count_pages(after.missing):
        return None  # lazy copy: most of it stayed behind
    zero = (
        sum(each.totals.zero_pages for each in record.precopy.rounds.done)
        + record.postcopy.supplied_zeros
    )
    content = max(record.config.guest.pages - zero, 0)
    return max(round(content * PAGE_SIZE * _pushed_ratio(record)), 1)


def _pushed_ratio(record: Measurements) -> float:
    """Compute the share of a page's bytes that compression left, over all of this run."""
    stats = record.precopy.encoder.compression if record.precopy.encoder is not None else None
    return stats.bytes / stats.raw_bytes if stats is not None and stats.raw_bytes else 1.0


def _last_pages_s(record: Measurements) -> float:
    """Return the seconds from the drain's end until the last pages were sent; 0 after a switch."""
    if record.precopy.final is None or record.precopy.final.round is None:
        return 0.0
    begun = record.timeline.find("drained")
    sent = record.timeline.find("last-pages-sent")
    return (sent - begun) / 1e9 if begun and sent else 0.0


def _bandwidth(record: Measurements, downtime_s: float) -> float | None:
    """Take the rate of the largest transfer: a round, the stop, or what followed the switch."""
    assert record.precopy.rounds is not None  # noqa: S101
    final = record.precopy.final.round if record.precopy.final else None
    transfers = [
        (each.totals.bytes, (each.end_ns - each.start_ns) / 1e9)
        for each in record.precopy.rounds.done
        if each is not final and each.end_ns
    ]
    if final is not None:
        transfers.append((final.totals.bytes, downtime_s))
    elif record.precopy.final is not None and record.times.completed_ns is not None:
        seconds = (
            record.times.completed_ns - record.precopy.final.downtime.paused_ns
        ) / 1e9 - downtime_s
        seconds -= _broken_s(record)
        transfers.append((_moved_after(record), seconds))
    size, seconds = max(transfers, default=(0, 0.0))
    return size / seconds if size >= MEASURABLE_BYTES and seconds > 0 else None


def _broken_s(record: Measurements) -> float:
    """Add up for how long post-copy had no connection."""
    seconds, since_ns = 0.0, None
    for event in record.timeline.events:
        if event.event == "postcopy-paused" and since_ns is None:
            since_ns = event.t_ns
        elif event.event == "postcopy-recovered" and since_ns is not None:
            seconds, since_ns = seconds + (event.t_ns - since_ns) / 1e9, None
    return seconds


def _decide_s(rounds: list[Round]) -> float:
    """Return the median time from a round's end to the start of the next one, or of the stop."""
    gaps = [(after.start_ns - before.end_ns) / 1e9 for before, after in pairwise(rounds)]
    return max(median(gaps), 0.0) if gaps else 0.0


def _staleness(record: Measurements) -> Callable[[float], Stale]:
    """Draw curves through what the rounds left stale, shaped in between by the guest's counter."""
    rounds = list(_after_drains(record))
    pages: list[_Point] = [(_ran_s(stats), stats.dirty_pages_after) for stats in rounds]
    sizes: list[_Point] = [(_ran_s(stats), _bytes_left(record, stats)) for stats in rounds]
    counted = list(_counted(record))
    if not rounds:
        pages = counted
        sizes = [(seconds, amount * _PAGE_BYTES) for seconds, amount in counted]
    total = record.config.guest.pages
    of_pages = StaleCurve(between(pages, counted), total)
    of_bytes = StaleCurve(between(sizes, counted), total * _PAGE_BYTES)
    in_memory, in_cache = _shares(max(rounds, key=lambda stats: stats.duration_s, default=None))
    return lambda seconds: Stale(of_pages(seconds), of_bytes(seconds), in_memory, in_cache)


def _bytes_left(record: Measurements, stats: RoundStats) -> int:
    """Compute what a round's stale pages would have cost, with the ratio that is known by now."""
    if record.precopy.encoder is None or record.precopy.rounds is None:
        return stats.remaining_bytes
    return record.precopy.rounds.transfer_cost.wire_bytes(
        record.precopy.rounds.done[stats.index - 1].raw_after
    )


def _ran_s(stats: RoundStats) -> float:
    """Return for how long the guest was allowed to run in a round."""
    return stats.duration_s * (1 - stats.throttle)


def between(measured: list[_Point], counted: list[_Point]) -> list[_Point]:
    """Add points in between to those measured, in the shape of what was counted.

    What is counted is what was written to memory, whoever has it by now, not what is stale: only
    how it is spread over time is taken from it. The result goes through the measured points.

    Args:
        measured: (seconds, amount), in any order.
        counted: (seconds, amount), in any order.

    Returns:
        The measured points, and those in between; empty where nothing was measured.
    """
    if not measured:
        return []
    shape = StaleCurve(counted, math.inf)
    out = list(measured)
    for (x0, y0), (x1, y1) in pairwise([(0.0, 0.0), *sorted(measured)]):
        low, high = shape(x0), shape(x1)
        if high > low and y1 > y0:
            out += [
                (x, y0 + (y1 - y0) * (shape(x) - low) / (high - low))
                for x, _ in counted
                if x0 * _APART < x < x1 / _APART
            ]
    return out


def _shares(stats: RoundStats | None) -> tuple[float, float]:
    """Split what the longest round left: what a round without a drain would send, and leave."""
    if stats is None or stats.remaining_bytes == 0:
        return 1.0, 0.0
    whole = stats.remaining_bytes
    return stats.in_memory.bytes / whole, stats.in_cache.bytes / whole


def _after_drains(record: Measurements) -> Iterator[RoundStats]:
    """Yield what each round saw at its end, of those that began with a drain.

    A round that was cut short knows only of what it has sent, and is left out. What a round without
    a drain left may be older than the round, where the cache had it before; but not where nearly
    all of it is in memory, which held no changes when the round began.
    """
    for order, decided in pairwise(record.precopy.decisions):
        made, stats = order.decision, decided.stats
        if (
            stats is None
            or not isinstance(made, NextRound)
            or record.precopy.cut_short(stats.index)
        ):
            continue
        if made.drain or stats.in_memory.bytes >= _NEARLY_ALL * stats.remaining_bytes:
            yield stats


def _counted(record: Measurements) -> Iterator[_Point]:
    """Yield how dirty pages gather while nothing is harvested: in the first round, or warm-up."""
    first = record.precopy.rounds.done[:1] if record.precopy.rounds else []
    samples = record.guest.source_samples
    whole = bool(first) and not first[0].pages_left
    if whole and (record.precopy.final is None or first[0] is not record.precopy.final.round):
        rounds = record.precopy.rounds
        if rounds is not None and rounds.throttling.growth:
            yield from rounds.throttling.growth  # looks have emptied the log meanwhile
            return
        inside = [s for s in samples if first[0].start_ns <= s.t_ns <= first[0].end_ns]
        for sample in inside[1:]:
            amount = sample.dirtied_pages - inside[0].dirtied_pages
            yield (sample.t_ns - first[0].start_ns) / 1e9, amount
        return
    boot = record.guest.boot_progress
    if boot is not None:
        end_ns = (
            record.predicted.predicting_ns or record.times.start_ns
        )  # measuring empties the log meanwhile
        for sample in samples:
            if boot.t_ns < sample.t_ns <= end_ns:
                yield (sample.t_ns - boot.t_ns) / 1e9, sample.dirtied_pages - boot.dirtied_pages
