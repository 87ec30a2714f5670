"""The report of a migration, made of its record."""

from __future__ import annotations

import platform
import socket
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple, Protocol

import numba
import numpy as np

from pageferry._version import __version__
from pageferry.common.capacity.cpus import usable_cpus
from pageferry.common.command_line.invocation import command_line
from pageferry.common.process.notices import notify_once
from pageferry.common.process.processor import processor
from pageferry.common.process.threads import failure_of
from pageferry.common.report.latency_histogram import fault_counts
from pageferry.common.report.schema import EventReport, Report
from pageferry.common.report.sections.estimates import BurstinessReport
from pageferry.common.report.sections.guest import (
    CacheReport,
    CpuReport,
    GuestReport,
    TimelineSample,
)
from pageferry.common.report.sections.postcopy import (
    FaultLatency,
    FaultTrace,
    MissingSample,
    PostcopyReport,
)
from pageferry.common.report.sections.prediction import PredictionReport
from pageferry.common.report.sections.rounds import DecisionReport, RoundReport
from pageferry.common.report.slowdown import fill_slowdown
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire.bitmap import count_pages
from pageferry.common.wire.pacing import WINDOW_S
from pageferry.common.wire.results import WirePostcopy
from pageferry.source_agent.measurements import Decided, Measurements
from pageferry.source_agent.precopy.batches import SentTotals
from pageferry.source_agent.precopy.rounds import Round
from pageferry.source_agent.prediction.predict import prediction_check
from pageferry.source_agent.report.compression import compression_report, xbzrle_report
from pageferry.source_agent.report.downtime import downtime_parts
from pageferry.source_agent.report.estimates import estimates, moved_bytes, oracle
from pageferry.source_agent.report.memory import pages_report


def make_report(record: Measurements) -> Report:
    """Make as much of a report as the record allows; never raises, since a migration is over.

    What its destination measured is left out where nothing can be made of it; if that is not
    enough, everything that was measured. A notice says so.

    Args:
        record: Loses the destination's result where nothing can be made of that.

    Returns:
        The report; at the least how the migration ended, and where the guest runs.
    """
    try:
        return _report(record)
    except Exception as error:  # noqa: BLE001 - how it ended, and where the guest is, come first
        notify_once(f"the report lacks what was measured at the destination: {failure_of(error)}")
    record.result.finished = None
    try:
        return _report(record)
    except Exception as error:  # noqa: BLE001 - as above
        notify_once(f"the report lacks what was measured: {failure_of(error)}")
    return Report(
        session=record.session,
        strategy=record.config.strategy,
        path=None,
        outcome=record.outcome,
        error=record.error,
        date=record.date,
        command=command_line(),
        config=record.config.to_json(),
        guest=GuestReport(runs_at=_runs_at(record)),
    )


def _report(record: Measurements) -> Report:
    rounds = record.precopy.rounds.done if record.precopy.rounds else []
    downtime = downtime_ms(record)
    seconds = None if downtime is None else downtime / 1e3
    wire = record.connection.closed_bytes + record.postcopy.urgent_bytes
    sent = _sent(record)
    postcopy = _postcopy(record)
    twice = (postcopy.duplicates or 0) if postcopy is not None else 0
    by_line = record.config.travels_by_line
    report = Report(
        session=record.session,
        strategy=record.config.strategy,
        path=record.precopy.strategy.path if record.precopy.strategy else None,
        outcome=record.outcome,
        error=record.error,
        converged=record.precopy.strategy.converged if record.precopy.strategy else None,
        date=record.date,
        command=command_line(),
        config=_config(record),
        downtime_ms=downtime,
        downtime_parts=downtime_parts(record, _resumed_ns(record)),
        downtime_error_ms=_downtime_error_ms(record),
        total_time_ms=_total_ms(record),
        setup_ms=record.times.setup_ns / 1e6 if record.times.setup_ns else None,
        decisions=[_decision(record, decided) for decided in record.precopy.decisions],
        rounds=[_round(record, each) for each in rounds],
        bytes_on_wire=wire,
        pages_sent=sent.pages + record.postcopy.pushed + record.postcopy.pulled,
        zero_pages=sent.zero_pages + record.postcopy.supplied_zeros,
        postcopy=postcopy,
        pages_resent=(record.precopy.rounds.pages_resent if record.precopy.rounds else 0) + twice,
        pages=pages_report(record),
        estimates=estimates(record, seconds),
        oracle=oracle(record, seconds, wire),
        prediction=_prediction(record, downtime),
        lines_sent=sent.lines if by_line else None,
        bytes_saved=sent.bytes_saved if by_line else None,
        guest=_guest(record),
        cache=_cache(record),
        compression=compression_report(record),
        xbzrle=xbzrle_report(record),
        cpu_s=_cpu(record),
        burstiness=_burstiness(record),
        verified=record.verified,
        digest_source=record.result.digest_source,
        digest_dest=record.result.finished.digest if record.result.finished else None,
        events=_events(record),
    )
    fill_slowdown(report)
    return report


def _sent(record: Measurements) -> SentTotals:
    """Add up all rounds, and what an unfinished one had sent."""
    if record.precopy.rounds is None:
        return SentTotals()
    return sum(
        (each.totals for each in record.precopy.rounds.done), record.precopy.rounds.unfinished
    )


def _config(record: Measurements) -> dict[str, Any]:
    """Return every option as used, and what ran it: `cpus` are those this process may use."""
    cpus = usable_cpus()
    options = record.config.to_json()
    link, peer = record.connection, record.connection.peer_welcome
    options["congestion"] = link.congestion  # what the connections use, not what was asked for
    options["tls"] = link.tls
    return options | {
        "cache_used": record.config.cache_used,
        "versions": {
            "pageferry": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "numba": numba.__version__,
        },
        "host": socket.gethostname(),
        "dest_host": peer.host if peer else None,
        "processor": processor(),
        "dest_processor": (peer.processor or None) if peer else None,
        "kernel": platform.release(),
        "cpus": cpus.count,
        "cpus_from": cpus.source,
        "cpu_quota": cpus.quota,
    }


def _burstiness(record: Measurements) -> BurstinessReport | None:
    windows = record.connection.windows
    if not windows.total:
        return None
    p50, p99, most = (windows.share(quantile) for quantile in (0.5, 0.99, 1.0))
    return BurstinessReport(
        pacing=record.config.pacing,
        window_ms=WINDOW_S * 1e3,
        windows=windows.total,
        p50=p50,
        p99=p99,
        max=most,
    )


def _resumed_ns(record: Measurements) -> int | None:
    """Return when the destination's last vCPU began, on our clock."""
    if record.times.resumed_peer_ns is None or record.connection.clock is None:
        return None
    return record.connection.clock.to_local(record.times.resumed_peer_ns)


def downtime_ms(record: Measurements) -> float | None:
    """Compute the time from the first vCPU's stop here to the last vCPU's start there.

    Args:
        record: Needs the stop, the resume and samples of the destination's clock.

    Returns:
        The downtime in ms; None where it is not known.
    """
    resumed_ns = _resumed_ns(record)
    if resumed_ns is None or record.precopy.final is None:
        return None
    return (resumed_ns - record.precopy.final.downtime.paused_ns) / 1e6


def _downtime_error_ms(record: Measurements) -> float | None:
    if downtime_ms(record) is None or record.connection.clock is None:
        return None
    return record.connection.clock.error_ns / 1e6


def _total_ms(record: Measurements) -> float | None:
    if record.times.completed_ns is None:
        return None
    return (record.times.completed_ns - record.times.start_ns) / 1e6


def _prediction(record: Measurements, downtime: float | None) -> PredictionReport | None:
    """Return the prediction as it was made, and how true it was."""
    made = record.predicted.prediction
    if made is None or record.timed_out:  # not the migration that was predicted
        return made
    total, moved = _total_ms(record), moved_bytes(record)
    check = prediction_check(made, record.config.strategy, total, downtime, moved)
    return made.model_copy(update={"taken": check})


def _t_ms(record: Measurements, t_ns: int) -> float:
    """Return ms since the migration's start, or since the session's where it never started."""
    return (t_ns - (record.times.start_ns or record.times.session_start_ns)) / 1e6


def _decision(record: Measurements, decided: Decided) -> DecisionReport:
    seen = decided.seen()
    if decided.stats is not None and record.precopy.cut_short(decided.stats.index):
        # What was not sent was stale before, so the guest's writes to it went unseen.
        seen["dirty_rate"] = None
    return DecisionReport(**seen, decision=decided.name, reason=decided.decision.reason)


def _round(record: Measurements, each: Round) -> RoundReport:
    end_ns = each.end_ns or each.start_ns
    config = record.config
    by_line = config.travels_by_line
    return RoundReport(
        index=each.index,
        kind=each.kind.value,
        pages=each.totals.pages,
        zero_pages=each.totals.zero_pages,
        line_pages=each.totals.line_pages if by_line else None,
        lines=each.totals.lines if by_line else None,
        bytes_saved=each.totals.bytes_saved if by_line else None,
        delta_pages=None if config.delta == "none" else each.totals.delta_pages,
        drained_lines=each.drained_lines if config.cache else None,
        pages_left=each.pages_left,
        bytes=each.totals.bytes,
        start_ms=_t_ms(record, each.start_ns),
        duration_ms=(end_ns - each.start_ns) / 1e6,
        dirty_pages_after=each.dirty_pages_after,
        dirty_ratio_after=each.dirty_pages_after * PAGE_SIZE / config.memory,
        throttle=each.throttle if config.auto_converge else None,
    )


class _Cumulative(Protocol):
    """A sample of the guest's progress: counts since its agent got it."""

    @property
    def t_ns(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def dirtied_pages(self) -> int: ...


def _timeline(record: Measurements) -> list[TimelineSample]:
    """Compute speeds between samples, both hosts on one axis; the stop shows as their gap."""
    out = _speeds(record, record.guest.source_samples, "source", lambda t_ns: t_ns)
    if record.result.finished is not None and record.connection.clock is not None:
        out += _speeds(
            record, record.result.finished.samples, "dest", record.connection.clock.to_local
        )
    return out


def _speeds(
    record: Measurements,
    samples: Sequence[_Cumulative],
    where: Literal["source", "dest"],
    to_local: Any,
) -> list[TimelineSample]:
    return [
        TimelineSample(
            t_ms=_t_ms(record, to_local(now.t_ns)),
            steps_per_s=(now.steps - last.steps) / seconds,
            dirty_pages_per_s=(now.dirtied_pages - last.dirtied_pages) / seconds,
            where=where,
        )
        for last, now in pairwise(samples)
        if (seconds := (now.t_ns - last.t_ns) / 1e9) > 0
    ]


def _guest(record: Measurements) -> GuestReport:
    boot, start, seen = record.guest.boot_progress, record.guest.start_progress, record.guest.seen
    report = GuestReport(runs_at=_runs_at(record), timeline=_timeline(record))
    if boot is None or start is None or seen is None:
        return report
    config, stop = record.config, seen.progress
    if config.warmup or config.predict:
        report.steps_before = start.steps - boot.steps
        report.steps_per_s_before = _rate(report.steps_before, start.t_ns - boot.t_ns)
    report.steps_during = stop.steps - start.steps
    report.steps_per_s_during = _rate(report.steps_during, stop.t_ns - start.t_ns)
    if config.auto_converge or config.dirty_limit is not None:
        report.slowed_ms = seen.slowed_s * 1e3
    if config.auto_converge and record.precopy.rounds is not None:
        report.throttle_peak = record.precopy.rounds.throttling.peak
    gaps = [_Gap(beats.gap_ns, beats.gap_start_ns) for beats in seen.beats]
    finished, clock = record.result.finished, record.connection.clock
    if finished is not None and record.times.resumed_peer_ns is not None and clock is not None:
        report.check = finished.check
        if config.run_after or finished.postcopy is not None:
            report.steps_after = sum(finished.steps) - stop.steps
            last_ns = max(beats.last_ns for beats in finished.beats)
            report.steps_per_s_after = _rate(
                report.steps_after, last_ns - record.times.resumed_peer_ns
            )
        for here, there in zip(seen.beats, finished.beats, strict=True):
            gaps.append(_Gap(there.gap_ns, clock.to_local(there.gap_start_ns)))
            gaps.append(_Gap(clock.to_local(there.first_ns) - here.last_ns, here.last_ns))
    longest = max(gaps)
    report.longest_gap_ms = longest.ns / 1e6
    report.longest_gap_start_ms = _t_ms(record, longest.start_ns)
    return report


class _Gap(NamedTuple):
    """A time in which one vCPU made no progress, on our clock."""

    ns: int
    start_ns: int


def _rate(count: int, duration_ns: int) -> float | None:
    return count / (duration_ns / 1e9) if duration_ns > 0 else None


def _runs_at(record: Measurements) -> Literal["source", "dest", "nowhere", "unknown"]:
    """Say who has the guest when the session ends."""
    if record.times.completed_ns is not None:
        return "dest"
    if record.outcome in ("in-doubt", "lost"):
        return "unknown"
    return "source" if record.guest.goes_on else "nowhere"


def _cache(record: Measurements) -> CacheReport | None:
    parts = [record.guest.seen.cache if record.guest.seen else None]
    there = record.result.finished.cache if record.result.finished else None
    parts.append(None if there is None else there.model_dump())
    known = [part for part in parts if part is not None]
    if not known:
        return None
    return CacheReport(
        **{name: sum(part[name] for part in known) for name in CacheReport.model_fields}
    )


def _cpu(record: Measurements) -> CpuReport | None:
    if record.times.cpu_s is None:
        return None
    return CpuReport(
        source=record.times.cpu_s,
        dest=record.result.finished.cpu_s if record.result.finished else None,
    )


def _postcopy(record: Measurements) -> PostcopyReport | None:
    """Return None where the guest never ran with pages missing."""
    part = record.result.finished.postcopy if record.result.finished else None
    resumed_ns, clock = _resumed_ns(record), record.connection.clock
    if part is None or resumed_ns is None or clock is None or record.times.completed_ns is None:
        return None
    ready, latency = record.connection.ready, part.latency_us
    mechanism = (ready.faults if ready else None) or "unknown"
    return PostcopyReport(
        mechanism=mechanism,
        mechanism_reason=(ready.faults_reason if ready else None) or "",
        faults=part.faults,
        zero_fills=part.zero_fills if mechanism == "kernel" else None,
        pages_pulled=part.pages_pulled,
        pages_pushed=part.pages_pushed,
        duplicates=_duplicates(record, part),
        pages_never_moved=count_pages(part.missing) if part.missing else 0,
        fault_latency_us=FaultLatency(**latency.model_dump()) if latency else None,
        fault_counts=fault_counts(part.latencies),
        duration_ms=(record.times.completed_ns - resumed_ns) / 1e6,
        missing=[
            MissingSample(t_ms=_t_ms(record, clock.to_local(t_ns)), pages=pages)
            for t_ns, pages in part.missing_over_time
        ],
        trace=[
            FaultTrace(t_ms=_t_ms(record, clock.to_local(t_ns)), us=us, page=page, vcpu=vcpu)
            for t_ns, us, page, vcpu in part.trace
        ]
        if record.config.trace_faults
        else None,
    )


def _duplicates(record: Measurements, part: WirePostcopy) -> int:
    """Count pages that travelled twice.

    When every page has moved, these are the pages sent beyond them: a copy that was still on its
    way when the last page arrived is not in the destination's count.
    """
    if part.missing is not None:
        return part.duplicates
    sent = record.postcopy.pushed + record.postcopy.pulled + record.postcopy.supplied_zeros
    return sent - part.pages_pulled - part.pages_pushed


def _events(record: Measurements) -> list[EventReport]:
    out = [
        EventReport(t_ms=_t_ms(record, e.t_ns), agent="source", event=e.event, **e.fields)
        for e in record.timeline.events
    ]
    clock = record.connection.clock
    if record.result.finished is not None and clock is not None:
        out += [
            EventReport(
                t_ms=_t_ms(record, clock.to_local(e.t_ns)), agent="dest", event=e.event, **e.fields
            )
            for e in record.result.finished.events
        ]
    return sorted(out, key=lambda event: event.t_ms)
