"""`simulate --from REPORT.json`: the guest and the link of a measured migration, simulated.

Taken from the report are the configuration, what the link carried, the round trip where a network
was measured or two clocks were compared, what a round and the hand-over took beyond their bytes,
and the speed of a guest that ran flat out. The working set is the workload's, as in any simulation;
where the rounds have seen how much was stale, it is stretched to go through that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
from pydantic import ValidationError

from pageferry.common.config.model import MigrationConfig, explain
from pageferry.common.errors import UsageError
from pageferry.common.report.schema import Report
from pageferry.common.report.sections.rounds import RoundReport
from pageferry.common.strategy.carrying import MEASURABLE_BYTES
from pageferry.common.strategy.conditions import Stale
from pageferry.common.units import PAGE_SIZE, format_time
from pageferry.runs.results import read_result
from pageferry.runs.tables import NOTHING, Sheet, percent, three_digits
from pageferry.sim.conditions import DISCARD_BYTE_S, Simulated, simulated_conditions
from pageferry.sim.link import SimulatedLink, parse_link
from pageferry.sim.options import SimulationOptions, about_of
from pageferry.sim.reporting import make_simulated_report, play
from pageferry.sim.working_set import PAGE_BYTES

_AT_LIMIT: Final = 0.97  # of its limit: a transfer that reaches it was held up by nothing else
_LEAST_S: Final = 1e-4
_IN_STOP: Final = ("final", "pushed")
_MOST_TIMES: Final = 100.0  # the rate that was reached; beyond that it tells nothing
_HALVINGS: Final = 40
_OWN_KEYS: Final = frozenset(MigrationConfig.model_fields)
_NEEDED: Final = ("strategy", "memory", "workload")  # a newer option has its default


@dataclass(frozen=True, slots=True)
class Stretched(Simulated):
    """Conditions under which more or fewer pages become stale than the workload's model says.

    Attributes:
        at_s: For how many seconds the guest ran, ascending; empty: nothing is stretched.
        by: For each of these times, the factor to what the model says; straight lines join them.
    """

    at_s: tuple[float, ...]
    by: tuple[float, ...]

    def stale_between(self, begun_s: float, ran_s: float) -> Stale:
        """Compute what becomes stale, stretched; no more than all pages.

        Args:
            begun_s: Seconds that the guest had run in the migration when the interval begins.
            ran_s: Seconds that it runs in the interval.

        Returns:
            The model's pages and bytes, times the factor of `ran_s`.
        """
        # Zero-argument super() fails: slots=True has made the class anew.
        stale = Simulated.stale_between(self, begun_s, ran_s)
        if not self.at_s:
            return stale
        factor = float(np.interp(ran_s, self.at_s, self.by))
        factor = min(factor, self.pages_total / max(stale.pages, 1.0))
        return stale._replace(pages=stale.pages * factor, bytes=stale.bytes * factor)


@dataclass(frozen=True)
class MeasuredMigration:
    """A measured migration that is to be simulated.

    Attributes:
        report: As it was measured.
        config: Of the simulation.
        changed: Options that differ between the two.
    """

    report: Report
    config: MigrationConfig
    changed: tuple[str, ...]

    def conditions(self, link: SimulatedLink | None, steps_per_s: float | None) -> Simulated:
        """Make the link and the guest as that run saw them, or as they are given.

        Args:
            link: The link; None takes the measured one.
            steps_per_s: Of a vCPU that runs flat out; None takes what was measured.

        Returns:
            Conditions for `play`.

        Raises:
            UsageError: Nothing limits the link.
        """
        report, config = self.report, self.config
        speed = steps_per_s or self._speed()
        link_ = link or self._link()
        under = simulated_conditions(config, link_, speed)
        rate = under.bandwidth_Bps
        changes: dict[str, float] = {}
        if (switchover_s := _switchover_s(report, link_, rate)) is not None:
            changes["switchover_s"] = max(switchover_s, _LEAST_S)
        moves = list(_transfers(report))
        beyond = [each.beyond_s(link_, rate) for each in moves[1:] if each.kind not in _IN_STOP]
        if beyond:
            changes["round_s"] = max(median(beyond), 0.0)
        rounds = [each for each in report.rounds if each.kind != "final" and not _cut(report, each)]
        if gaps := [b.start_ms - a.start_ms - a.duration_ms for a, b in pairwise(rounds)]:
            changes["decide_s"] = max(median(gaps) / 1e3, 0.0)
        values = {each.name: getattr(under, each.name) for each in fields(Simulated)} | changes
        at_s, by = self._stretch(under)
        return Stretched(**values, at_s=at_s, by=by)

    def _link(self) -> SimulatedLink:
        """Estimate the link: its rate if nothing else held pages up, its delay where measured."""
        net = self.report.net
        if net is not None:  # measured before the migration, with empty queues
            delay = net.rtt_ms / 2e3
        else:
            delay = (
                max(self.report.downtime_error_ms or 0.0, 0.0) / 1e3
            )  # the error is half a round trip
        link = SimulatedLink(delay=min(delay, 60.0))
        rate, limit = _bandwidth(self.report, link), _limit(self.report.config)
        if rate is None or rate >= _AT_LIMIT * limit:
            return link
        return link.model_copy(update={"rate": rate})

    def _speed(self) -> float | None:
        """Return the measured speed of a vCPU that, by the model, ran flat out; else None."""
        before = self.report.guest.steps_per_s_before
        if not before or simulated_conditions(self.config, SimulatedLink(rate=1e9)).guest.busy < 1:
            return None
        return before / self.config.vcpus

    def _stretch(self, under: Simulated) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Divide what rounds saw by what the model says: times in order, and a factor for each."""
        if {"workload", "memory", "cache", "vcpus", "seed"} & set(self.changed):
            return (), ()
        found: dict[float, float] = {}
        for begun_s, ran_s, pages in _seen(self.report):
            model = Simulated.stale_between(under, begun_s, ran_s).pages
            if model >= 1 and pages >= 1:
                found[ran_s] = pages / model
        at = sorted(found)
        return tuple(at), tuple(found[each] for each in at)

    def compare(self, simulated_: Report) -> Sheet:
        """Compare the simulation with the measurement.

        Args:
            simulated_: The report of the simulation.

        Returns:
            A table of both and their differences. Where `--timeout` ended the measured one, it has
            no differences: the two are not of the same thing.
        """
        was, now = self.report, simulated_
        row = _beside if _timed_out(was) else _row
        rows = [
            row("total ms", was.total_time_ms, now.total_time_ms),
            row("downtime ms", was.downtime_ms, now.downtime_ms),
            row("bytes", was.bytes_on_wire, now.bytes_on_wire),
            row("rounds", len(was.rounds), len(now.rounds)),
        ]
        if was.postcopy is not None and now.postcopy is not None:
            rows.append(row("faults", was.postcopy.faults, now.postcopy.faults))
        title = "simulated beside measured"
        if _timed_out(was):
            limit_s = was.config.get("timeout")
            after = f" {format_time(limit_s)}" if isinstance(limit_s, (int, float)) else ""
            title += f": --timeout{after} ended the measured one, and is not played"
        if self.changed:
            options = ", ".join("--" + name.replace("_", "-") for name in self.changed)
            title += f" (other than measured: {options})"
        columns = ("", "measured", "simulated", "off by", "off by %")
        return Sheet(title, columns, tuple(rows))


def _timed_out(report: Report) -> bool:
    return any(event.event == "timeout" for event in report.events)


def _cut(report: Report, each: RoundReport) -> bool:
    """Tell whether `--timeout` cut a round short; older reports do not say which one."""
    if each.pages_left:
        return True
    before = [one.index for one in report.rounds if one.kind != "final"]
    return _timed_out(report) and bool(before) and each.index == before[-1]


def _beside(name: str, was: float | None, now: float | None) -> tuple[str, ...]:
    """Write two figures that are not of the same thing: their difference would say nothing."""
    return (*_row(name, was, now)[:3], NOTHING, NOTHING)


def _row(name: str, was: float | None, now: float | None) -> tuple[str, ...]:
    if was is None or now is None:
        return (name, NOTHING, NOTHING, NOTHING, NOTHING)
    off = percent(now / was - 1) if was else NOTHING
    return (name, _figure(was), _figure(now), _figure(now - was), off)


def _figure(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else three_digits(value)


def read_measured(file: Path, given: Mapping[str, Any]) -> MeasuredMigration:
    """Read the report of a measured migration, and configure its simulation.

    Args:
        file: The report.
        given: Options that are to differ from the measured ones, by field.

    Returns:
        The migration; its timeout and its injected faults are left out of the simulation.

    Raises:
        UsageError: It can't be read, is not a completed, measured migration, or an option is wrong.
    """
    document = read_result(file)
    if not isinstance(document, Report):
        raise UsageError(f"--from: {file} has several runs: expected the report of one migration")
    if document.outcome != "completed" or not document.total_time_ms:
        raise UsageError(f"--from: the migration of {file} was not completed")
    if document.config.get("simulated"):
        raise UsageError(f"--from: {file} was simulated itself: expected a measured migration")
    was = {name: value for name, value in document.config.items() if name in _OWN_KEYS}
    if was.get("max_bandwidth", 0) is None:  # no limit; earlier versions wrote a word
        was["max_bandwidth"] = math.inf
    if missing := [name for name in _NEEDED if name not in was]:
        raise UsageError(f"--from: {file}: its config has no {missing[0]}: what was it of?")
    try:
        config = MigrationConfig.model_validate(was | dict(given))
        before = MigrationConfig.model_validate(was)
    except ValidationError as error:
        raise UsageError(f"--from: {file}: {explain(error)}") from None
    changed = [name for name in given if getattr(before, name) != getattr(config, name)]
    # A timeout belonged to that run, and faults are not simulated.
    config = config.model_copy(update={"timeout": None, "inject": ()})
    return MeasuredMigration(document, config, tuple(changed))


def _limit(config: Mapping[str, Any]) -> float:
    limit = config.get("max_bandwidth")
    return float(limit) if isinstance(limit, (int, float)) else math.inf


def _part_s(report: Report, name: str) -> float | None:
    found = [part.ms for part in report.downtime_parts if part.name == name]
    return found[0] / 1e3 if found else None


@dataclass(frozen=True, slots=True)
class _Transfer:
    """Something that moved pages.

    Attributes:
        kind: Of the round, or `pushed`.
        bytes: What it moved.
        seconds: How long it took.
        sent: Bytes that were sent before it.
        trips: Round trips that are within.
    """

    kind: str
    bytes: int
    seconds: float
    sent: int
    trips: float

    def beyond_s(self, link: SimulatedLink, rate_Bps: float) -> float:
        """Compute the seconds that it took beyond its bytes; round trips count."""
        return self.seconds - link.carried_s(self.bytes, self.sent, rate_Bps)

    def rate(self, link: SimulatedLink) -> float:
        """Find the rate at which it would have taken just so long: bytes a second."""
        low = self.bytes / self.seconds
        if link.rtt_s == 0:
            return low
        high = _MOST_TIMES * low
        for _ in range(_HALVINGS):
            middle = math.sqrt(low * high)
            longer = self.beyond_s(link, middle) < self.trips * link.rtt_s
            low, high = (middle, high) if longer else (low, middle)
        return low


def _transfers(report: Report) -> Iterator[_Transfer]:
    """Yield whatever moved pages, in order."""
    sent = 0
    for each in report.rounds:
        seconds, trips = each.duration_ms / 1e3, 1.0  # until the destination has confirmed it
        if each.kind == "final":
            seconds, trips = _part_s(report, "last pages") or seconds, 0.0
        yield _Transfer(each.kind, each.bytes, seconds, sent, trips)
        sent += each.bytes
    post = report.postcopy
    if post is not None and post.duration_ms > 0 and post.pages_pushed:
        size = (post.pages_pushed + post.pages_pulled) * PAGE_BYTES
        yield _Transfer("pushed", size, post.duration_ms / 1e3, sent, 1.5)


def _bandwidth(report: Report, link: SimulatedLink) -> float | None:
    """Compute the rate of the largest transfer, given the link's round trips."""
    largest = max(_transfers(report), key=lambda each: each.bytes, default=None)
    if largest is None or largest.bytes < MEASURABLE_BYTES or largest.seconds <= 0:
        return None
    return largest.rate(link)


def _switchover_s(report: Report, link: SimulatedLink, rate_Bps: float) -> float | None:
    """Compute what the hand-over took by itself.

    The rest of the downtime is the drain, the last pages, their way, and the discard of stale ones.
    What the source took for the last pages ends when the kernel has them; the link may take longer.
    """
    if report.downtime_ms is None or not report.downtime_parts:
        return None
    others = (_part_s(report, "drain") or 0.0) + link.rtt_s / 2
    for each in _transfers(report):
        if each.kind == "final":
            others += max(each.seconds, link.carried_s(each.bytes, each.sent, rate_Bps))
    post = report.postcopy
    if post is not None and report.rounds:
        pages = post.pages_pulled + post.pages_pushed + post.pages_never_moved
        others += min(pages * PAGE_SIZE * DISCARD_BYTE_S, _part_s(report, "resume") or 0.0)
    return report.downtime_ms / 1e3 - others


def _seen(report: Report) -> Iterator[tuple[float, float, int]]:
    """Yield when a round began, how long the guest ran in it, and how many pages it left stale.

    Only of rounds that began with a drain: what another one left may be older than it.
    """
    begun_s = 0.0
    for each in report.rounds:
        ran_s = each.duration_ms / 1e3 * (1 - (each.throttle or 0.0))
        if each.kind != "final" and not _holds(report, each) and not _cut(report, each):
            yield begun_s, ran_s, each.dirty_pages_after
        begun_s += ran_s


def _holds(report: Report, each: RoundReport) -> bool:
    return report.path == 2 and each.kind == "dirty"


def simulated_again(measured: MeasuredMigration, options: SimulationOptions) -> Report:
    """Simulate a measured migration in virtual time.

    Args:
        measured: The migration.
        options: Its link and guest speed, where given, replace the measured ones.

    Returns:
        The simulation's report.

    Raises:
        UsageError: An option is wrong, or nothing limits the link.
    """
    link = parse_link(options.link) if options.link else None
    under = measured.conditions(link, options.guest_speed)
    about = {**about_of(options), "simulated_from": str(options.from_file)}
    return make_simulated_report(play(measured.config, under), about)
