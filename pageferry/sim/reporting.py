"""A simulated migration as the report that a measured one has.

What a simulation cannot have is null, or empty: digests, CPU seconds, the cache's counters, where
in memory things happened. `config` says `simulated`, and with which link and guest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from pageferry._version import __version__
from pageferry.common.config.model import MigrationConfig
from pageferry.common.report.binding_limit import lower_limit
from pageferry.common.report.schema import EventReport, Report
from pageferry.common.report.sections.estimates import OracleReport
from pageferry.common.report.sections.guest import GuestReport, TimelineSample
from pageferry.common.report.sections.postcopy import FaultLatency, MissingSample, PostcopyReport
from pageferry.common.report.sections.rounds import DecisionReport, DowntimePart, RoundReport
from pageferry.common.report.slowdown import fill_slowdown
from pageferry.common.strategy import (
    RoundKind,
    StopAndCopy,
    Strategy,
    SwitchToPostCopy,
    make_strategy,
)
from pageferry.common.strategy.conditions import Stale
from pageferry.common.strategy.forecast import Cost, Ended, Played, play_strategy
from pageferry.common.units import LINE_SIZE, PAGE_SIZE
from pageferry.common.wire.frames import LINES_OF
from pageferry.sim.conditions import Simulated
from pageferry.sim.postcopy import Supplied
from pageferry.sim.working_set import PAGE_BYTES
from pageferry.source_agent.measurements import Decided

_MOST_SAMPLES: Final = 100


@dataclass
class SimulatedRun:
    """A migration as it was played.

    Attributes:
        config: What was simulated.
        under: Link and guest.
        strategy: The strategy, after its last decision.
        rounds: The rounds, in order.
        ended: How it ended; None before the end.
        supplied: What followed a switch to post-copy; None after a stop, or where it was not asked
            for.
        cost: What it took.
    """

    config: MigrationConfig
    under: Simulated
    strategy: Strategy
    rounds: list[Played] = field(default_factory=list)
    ended: Ended | None = None
    supplied: Supplied | None = None
    cost: Cost = field(default_factory=lambda: Cost(0.0, 0.0, 0, 0, None))

    def note(self, what: Played | Ended) -> None:
        """Note a round or the end; for the forecast to call.

        Args:
            what: The round that was played, or the end.
        """
        if isinstance(what, Played):
            self.rounds.append(what)
        else:
            self.ended = what


def play(config: MigrationConfig, under: Simulated, *, faults: bool = True) -> SimulatedRun:
    """Simulate one migration.

    Args:
        config: What is simulated.
        under: Link and guest, made from it.
        faults: Whether what follows a switch to post-copy is simulated, too.

    Returns:
        The migration as it was played.
    """
    run_ = SimulatedRun(config, under, make_strategy(config))
    run_.cost = play_strategy(run_.strategy, under, run_.note)
    ended = run_.ended
    if faults and ended is not None and isinstance(ended.decision, SwitchToPostCopy):
        supply = under.missing(ended.left.pages, ended.ran_s)
        run_.supplied = supply.play(push=ended.decision.push, until_s=under.run_after_s)
    return run_


def make_simulated_report(run_: SimulatedRun, about: dict[str, Any]) -> Report:
    """Make the report of a simulated migration.

    Args:
        run_: The migration, played to its end.
        about: Link and guest, which are added to the report's `config`.

    Returns:
        The report.
    """
    cost, ended = run_.cost, run_.ended
    assert ended is not None  # noqa: S101 - it has been played
    rounds = [_round(run_, played) for played in run_.rounds]
    if isinstance(ended.decision, StopAndCopy):
        rounds.append(_final(run_, ended))
    postcopy = _postcopy(run_, ended)
    moved = 0 if postcopy is None else postcopy.pages_pulled + postcopy.pages_pushed
    by_line = run_.config.travels_by_line
    report = Report(
        session=f"simulated-{run_.config.seed}",
        strategy=run_.config.strategy,
        path=cost.path,
        outcome="completed",
        converged=run_.strategy.converged,
        config=_config(run_.config) | about,
        downtime_ms=cost.downtime_s * 1e3,
        downtime_parts=_downtime_parts(run_, ended),
        total_time_ms=cost.total_s * 1e3,
        decisions=_decisions(run_, ended),
        rounds=rounds,
        bytes_on_wire=cost.bytes,
        pages_sent=sum(each.pages for each in rounds) + moved,
        zero_pages=sum(each.zero_pages for each in rounds),
        pages_resent=max(_all_pages(rounds) + moved - run_.config.pages, 0),
        lines_sent=sum(each.lines or 0 for each in rounds) if by_line else None,
        bytes_saved=sum(each.bytes_saved or 0 for each in rounds) if by_line else None,
        oracle=_oracle(run_.under, cost),
        bound=lower_limit(run_.config.max_bandwidth, run_.under.link_Bps),
        postcopy=postcopy,
        guest=_guest(run_, ended),
        events=_events(run_, ended),
    )
    fill_slowdown(report)
    return report


def _oracle(under: Simulated, cost: Cost) -> OracleReport:
    """Compare it with one copy of memory and a stop that sends nothing."""
    least_s = under.full_bytes / under.bandwidth_Bps + under.switchover_s
    return OracleReport(
        least_bytes=under.full_bytes,
        least_downtime_ms=under.switchover_s * 1e3,
        least_total_time_ms=least_s * 1e3,
        bytes_ratio=cost.bytes / under.full_bytes,
        downtime_ratio=cost.downtime_s / under.switchover_s,
        total_time_ratio=cost.total_s / least_s,
    )


def _all_pages(rounds: list[RoundReport]) -> int:
    """Count the pages that were sent, as content or as a mark; each of them is new only once."""
    return sum(each.pages + each.zero_pages for each in rounds)


def _config(config: MigrationConfig) -> dict[str, Any]:
    options = config.to_json()
    told = {"versions": {"pageferry": __version__}, "simulated": True, "verify": False}
    told["cache_used"] = config.cache_used
    return options | told


def _decisions(run_: SimulatedRun, ended: Ended) -> list[DecisionReport]:
    """Pair what was seen with what was then decided."""
    orders = [*(played.order for played in run_.rounds), ended.decision]
    seen = [None, *(played.stats for played in run_.rounds)]
    decided = [Decided(stats, order) for stats, order in zip(seen, orders, strict=True)]
    return [
        DecisionReport(**each.seen(), decision=each.name, reason=each.decision.reason)
        for each in decided
    ]


def _round(run_: SimulatedRun, played: Played) -> RoundReport:
    stats = played.stats
    sent = _sent(run_, played.sent, full=played.order.kind is RoundKind.FULL)
    return RoundReport(
        index=stats.index,
        kind=played.order.kind.value,
        **sent,
        drained_lines=_cached(run_, played.drained_lines),
        start_ms=played.start_s * 1e3,
        duration_ms=stats.duration_s * 1e3,
        dirty_pages_after=stats.dirty_pages_after,
        dirty_ratio_after=stats.dirty_ratio_after,
        throttle=max(played.order.throttle, stats.throttle) if run_.config.auto_converge else None,
    )


def _final(run_: SimulatedRun, ended: Ended) -> RoundReport:
    return RoundReport(
        index=len(run_.rounds) + 1,
        kind="final",
        **_sent(run_, ended.left, full=not run_.rounds),
        drained_lines=_cached(run_, ended.left.cached_lines),
        start_ms=ended.end_s * 1e3,
        duration_ms=(run_.cost.total_s - ended.end_s) * 1e3,
        dirty_pages_after=0,
        dirty_ratio_after=0.0,
        throttle=run_.rounds[-1].stats.throttle
        if run_.config.auto_converge and run_.rounds
        else None,
    )


def _cached(run_: SimulatedRun, lines: float) -> int | None:
    """Round a number of cache lines; None without a cache."""
    return round(lines) if run_.config.cache else None


def _sent(run_: SimulatedRun, what: Stale, *, full: bool) -> dict[str, int | None]:
    """Tally pages, and how they travelled: of a round with some by line, all did on average."""
    pages, size = round(what.pages), round(what.bytes)
    if not run_.config.travels_by_line:
        zero = min(round(run_.under.zero_pages), pages) if full else 0
        whole = {"line_pages": None, "lines": None, "bytes_saved": None}
        return {**_tally(pages - zero, zero, size), **whole}
    if full:
        zero = min(round(run_.under.zero_pages), pages)
        return _tally(pages - zero, zero, size)
    saved = pages * PAGE_BYTES - size
    if saved < pages:  # less than a byte a page: the rounding of both
        return _tally(pages, 0, size)
    lines = max(round((size - pages * LINES_OF.itemsize) / LINE_SIZE), 0)
    return _tally(pages, 0, size, line_pages=pages, lines=lines, bytes_saved=saved)


def _tally(
    pages: int,
    zero_pages: int,
    size: int,
    *,
    line_pages: int = 0,
    lines: int = 0,
    bytes_saved: int = 0,
) -> dict[str, int | None]:
    return {
        "pages": pages,
        "zero_pages": zero_pages,
        "bytes": size,
        "line_pages": line_pages,
        "lines": lines,
        "bytes_saved": bytes_saved,
    }


def _parts(run_: SimulatedRun, ended: Ended) -> dict[str, float]:
    if isinstance(ended.decision, StopAndCopy):
        return run_.under.stop_parts(ended.left, ended.sent)
    return run_.under.switch_parts(ended.left.pages)


def _downtime_parts(run_: SimulatedRun, ended: Ended) -> list[DowntimePart]:
    out: list[DowntimePart] = []
    start_s = 0.0
    for name, seconds in _parts(run_, ended).items():
        part = {"name": name, "start_ms": start_s * 1e3, "ms": seconds * 1e3}
        out.append(DowntimePart.model_validate(part))
        start_s += seconds
    return out


def _postcopy(run_: SimulatedRun, ended: Ended) -> PostcopyReport | None:
    supplied = run_.supplied
    if supplied is None:
        return None
    resumed_s = ended.end_s + run_.cost.downtime_s
    us = supplied.latency_s * 1e6
    left = supplied.samples[-1].missing if supplied.samples else 0.0
    thinned = _thin(supplied)
    return PostcopyReport(
        mechanism="simulated",
        mechanism_reason="a round trip, a queue, a page's time and the handler a fault",
        faults=round(supplied.faults),
        zero_fills=None,
        pages_pulled=round(supplied.pulled),
        pages_pushed=round(supplied.pushed),
        duplicates=None,
        pages_never_moved=round(left) if not supplied.pushed else 0,
        fault_latency_us=FaultLatency(p50=us, p90=None, p99=None, p999=None, max=None)
        if round(supplied.faults)
        else None,
        duration_ms=(run_.cost.total_s - resumed_s) * 1e3,
        missing=[
            MissingSample(t_ms=(resumed_s + each.t_s) * 1e3, pages=round(each.missing))
            for each in thinned
        ],
        trace=None,
    )


def _thin(supplied: Supplied) -> list[Any]:
    every = max(len(supplied.samples) // _MOST_SAMPLES, 1)
    return supplied.samples[every - 1 :: every]


def _guest(run_: SimulatedRun, ended: Ended) -> GuestReport:
    under, guest = run_.under, run_.under.guest
    since = under.since_s
    before = guest.steps(0.0, since)
    during = guest.steps(since, since + ended.ran_s)
    downtime_s = run_.cost.downtime_s
    paused_s = ended.end_s + downtime_s
    speed = guest.steps_per_s
    after_s = run_.config.run_after if run_.supplied is None else run_.supplied.ran_s
    slowed = run_.config.auto_converge or run_.config.dirty_limit is not None
    return GuestReport(
        steps_before=round(before) if since > 0 else None,
        steps_during=round(during),
        steps_after=round(speed * after_s) if after_s > 0 else None,
        steps_per_s_before=before / since if since > 0 else None,
        steps_per_s_during=during / paused_s if paused_s > 0 else None,
        steps_per_s_after=_speed_after(run_) if after_s > 0 else None,
        longest_gap_ms=downtime_s * 1e3,
        longest_gap_start_ms=ended.end_s * 1e3,
        throttle_peak=max((played.stats.throttle for played in run_.rounds), default=0.0)
        if run_.config.auto_converge
        else None,
        slowed_ms=max(ended.end_s - ended.ran_s, 0.0) * 1e3 * guest.vcpus if slowed else None,
        runs_at="dest",
        timeline=_timeline(run_, ended),
    )


def _speed_after(run_: SimulatedRun) -> float:
    """Compute steps a second from the resume on, the time of waiting for pages counted."""
    speed, supplied = run_.under.guest.steps_per_s, run_.supplied
    if supplied is None or supplied.seconds <= 0:
        return speed
    return speed * min(supplied.ran_s / supplied.seconds, 1.0)


def _timeline(run_: SimulatedRun, ended: Ended) -> list[TimelineSample]:
    """Sample the guest's speed: once a round at the source, at the destination as pages come in."""
    speed = run_.under.guest.steps_per_s
    out: list[TimelineSample] = []
    for played in run_.rounds:
        stats = played.stats
        out.append(
            TimelineSample(
                t_ms=stats.elapsed_s * 1e3,
                steps_per_s=speed * (1.0 - stats.throttle),
                dirty_pages_per_s=stats.dirty_rate_Bps / PAGE_SIZE,
                where="source",
            )
        )
    resumed_s = ended.end_s + run_.cost.downtime_s
    if run_.supplied is not None:
        for each in run_.supplied.samples:
            out.append(
                TimelineSample(
                    t_ms=(resumed_s + each.t_s) * 1e3,
                    steps_per_s=speed * each.speed,
                    dirty_pages_per_s=None,
                    where="dest",
                )
            )
    return out


def _events(run_: SimulatedRun, ended: Ended) -> list[EventReport]:
    out = [_event(0.0, "migration-start")]
    for played in run_.rounds:
        index = played.stats.index
        out.append(_event(played.start_s, "round-start", round=index, kind=played.order.kind.value))
        out.append(_event(played.stats.elapsed_s, "round-end", round=index))
    at_s = ended.end_s
    for event, part in (
        ("paused", "pause"),
        ("drained", "drain"),
        ("last-pages-sent", "last pages"),
        ("commit-received", "snapshot and commit"),
        ("resumed-there", "resume"),
    ):
        parts = _parts(run_, ended)
        if event == "paused":
            out.append(_event(at_s, event))
        elif part in parts:
            out.append(_event(at_s + parts[part], event))
        at_s += parts.get(part, 0.0)
    out.append(_event(run_.cost.total_s, "completed"))
    return out


def _event(t_s: float, event: str, **fields: Any) -> EventReport:
    return EventReport(t_ms=t_s * 1e3, agent="source", event=event, **fields)
