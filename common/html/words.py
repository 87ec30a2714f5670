"""Figures as people read them, and what happened in a sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from pageferry.common.config.model import MigrationConfig, shown
from pageferry.common.report.limits import DOWNTIME, TIMEOUT, ended_by, sentence
from pageferry.common.report.schema import Report
from pageferry.common.report.sections.estimates import EstimateReport
from pageferry.common.report.sections.rounds import DecisionReport
from pageferry.common.report.slowdown import below_half_ms, slowdown
from pageferry.common.report.summary import GAP, NOTHING, headline, is_simulated, loss
from pageferry.common.units import human_bytes

__all__ = ["NOTHING", "headline"]


def duration(ms: float | None) -> str:
    """Write a time: `0.421 ms`, `2.30 ms`, `348 ms`, `10.8 s`, `3 min 12 s`.

    Args:
        ms: Milliseconds; None: not known.

    Returns:
        A dash where it is not known or not finite.
    """
    if ms is None or not math.isfinite(ms):
        return NOTHING
    size = abs(ms)
    if size < 0.9995:
        return f"{ms:.3f} ms"
    if size < 99.995:
        return f"{ms:.2f} ms"
    if size < 999.5:
        return f"{ms:.0f} ms"
    if size < 119_950:
        return f"{ms / 1e3:.1f} s" if size >= 9_950 else f"{ms / 1e3:.2f} s"
    minutes, seconds = divmod(round(ms / 1e3), 60)
    return f"{minutes:,} min {seconds} s"


def share(value: float | None) -> str:
    """Write a share: `21.6 %`.

    Args:
        value: A fraction of one; None: not known.

    Returns:
        A dash where it is not known or not finite.
    """
    return NOTHING if value is None or not math.isfinite(value) else f"{100 * value:.1f} %"


def signed(value: float | None) -> str:
    """Write a deviation: `+14 %`, `−0.4 %`.

    Args:
        value: A fraction of one; None: not known.

    Returns:
        A dash where it is not known or not finite.
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    digits = 1 if abs(value) < 0.0995 else 0
    return f"{100 * value:+,.{digits}f} %".replace("-", "\N{MINUS SIGN}")


def size(value: float | None) -> str:
    """Write a size: `537 MB`.

    Args:
        value: Bytes; None: not known.

    Returns:
        A dash where it is not known or not finite.
    """
    return NOTHING if value is None or not math.isfinite(value) else human_bytes(value)


def rate(value: float | None) -> str:
    """Write a rate: `99.7 MB/s`.

    Args:
        value: Bytes per second; None: not known.

    Returns:
        A dash where it is not known or not finite.
    """
    return NOTHING if value is None or not math.isfinite(value) else f"{human_bytes(value)}/s"


def count(value: int | None) -> str:
    """Write a count: `1,664`.

    Args:
        value: A whole number; None: not known.

    Returns:
        A dash where it is not known.
    """
    return NOTHING if value is None else f"{value:,}"


@dataclass(frozen=True, slots=True)
class Vital:
    """One of the figures at the top: name, value and what it is. mood: `good`, `bad` or nothing."""

    name: str
    value: str
    about: str
    mood: str = ""


def made(report: Report) -> str:
    """Say when, how and on what: `2026-11-29T01:20:46Z · pageferry migrate · alpha, Xeon`.

    Args:
        report: Of one run.

    Returns:
        What is known of it; empty where nothing is.
    """
    hosts = [
        ", ".join(text for text in (name, model) if isinstance(text, str) and text)
        for name, model in (
            (report.config.get("host"), report.config.get("processor")),
            (report.config.get("dest_host"), report.config.get("dest_processor")),
        )
    ]
    where = " to ".join(dict.fromkeys(host for host in hosts if host))
    return " · ".join(text for text in (report.date, report.command, where) if text)


def verdict(report: Report) -> str:
    """Say how the run ended.

    Args:
        report: Of one run.

    Returns:
        A sentence or more.
    """
    where = {
        "source": "The guest goes on at the source.",
        "dest": "The guest runs at the destination.",
        "nowhere": "The guest runs nowhere.",
        "unknown": "It is not known at which host the guest runs.",
    }[report.guest.runs_at]
    if report.outcome != "completed":
        how = {
            "failed": "The migration failed",
            "cancelled": "The migration was cancelled",
            "in-doubt": "The hand-over's outcome is unknown",
            "lost": "The guest is lost",
        }[report.outcome]
        # Our errors say it; those in older reports may not.
        where = "" if "guest" in (report.error or "") else f" {where}"
        return f"{how}: {report.error}.{where}" if report.error else f"{how}.{where}"
    return _moved(report) + "".join(_shortcomings(report))


def _shortcomings(report: Report) -> Iterator[str]:
    """Yield a sentence for each thing that did not go as planned."""
    if report.converged is False:
        would = "would not" if is_simulated(report) else "did not"
        yield f" Its rounds {would} converge: {ended_by(report)} ended them."
    for missed in report.limits_missed:
        yield f" {sentence(missed, simulated=is_simulated(report))}."


def _moved(report: Report) -> str:
    if is_simulated(report):
        return (
            f"Simulated: the guest would move in {duration(report.total_time_ms)} and stand still"
            f" for {duration(report.downtime_ms)} of it. No guest ran, and nothing was moved."
        )
    text = (
        f"The guest moved in {duration(report.total_time_ms)} and stood still for"
        f" {duration(report.downtime_ms)} of it"
    )
    if report.verified is None:
        return f"{text}. Its memory was not verified."
    if report.verified:
        return f"{text}. At the destination it is, byte for byte, the guest that left."
    why = report.error or "the digests differ"
    return f"{text}. At the destination it is NOT the guest that left: {why}."


def _mood(report: Report, limit: str) -> str:
    return "bad" if any(missed.limit == limit for missed in report.limits_missed) else ""


def vitals(report: Report) -> list[Vital]:
    """List the figures that people ask for first.

    Args:
        report: Of one run.

    Returns:
        In the order of the page.
    """
    guest, error = report.guest, report.downtime_error_ms or 0.0
    plus_minus = (
        f"± {duration(error)}: two clocks" if error else "first vCPU stopped to last one running"
    )
    out = [
        Vital("downtime", duration(report.downtime_ms), plus_minus, _mood(report, DOWNTIME)),
        Vital(
            "total time",
            duration(report.total_time_ms),
            "until the source was not needed",
            _mood(report, TIMEOUT),
        ),
        Vital("on the wire", size(report.bytes_on_wire), _per_guest(report)),
    ]
    if not is_simulated(report):
        out.append(Vital("longest gap", duration(guest.longest_gap_ms), GAP))
    lost = slowdown(report)
    if lost is not None:
        about = "of the guest's speed, from the migration's start to its end"
        out.append(Vital("guest's loss", loss(lost), about))
        about = "of that time it ran at less than half its speed, or not at all"
        out.append(Vital("below half speed", duration(below_half_ms(report)), about))
    if is_simulated(report):
        return [replace(each, about=f"simulated: {each.about}") for each in out]
    mood = {True: "good", False: "bad", None: ""}[report.verified]
    word = {True: "yes", False: "NO", None: "no figure"}[report.verified]
    about = "digests at both ends are equal" if report.verified else "digests of both ends"
    if report.outcome != "completed":
        return [Vital("outcome", report.outcome, report.error or "no reason given", "bad"), *out]
    return [*out, Vital("verified", word, about, mood)]


def _per_guest(report: Report) -> str:
    memory = report.config.get("memory")
    if not isinstance(memory, int) or memory <= 0:
        return "all connections"
    return f"{report.bytes_on_wire / memory:.2f} × the guest's memory"


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision, as text: when, what was seen, what was decided, why."""

    when: str
    seen: str
    decided: str
    why: str


def decisions(report: Report) -> list[Decision]:
    """List the strategy's decisions as text.

    Args:
        report: Of one run.

    Returns:
        All of them, in order.
    """
    return [
        Decision(
            f"after round {each.after_round}" if each.after_round else "before round 1",
            _seen(each),
            each.decision,
            each.reason,
        )
        for each in report.decisions
    ]


def _seen(decision: DecisionReport) -> str:
    parts = []
    if decision.dirty_pages is not None:
        ratio = f" ({share(decision.dirty_ratio)} of memory)" if decision.dirty_ratio else ""
        parts.append(f"{decision.dirty_pages:,} pages out of date{ratio}")
    if decision.dirty_rate is not None:
        parts.append(f"dirtied at {rate(decision.dirty_rate)}")
    if decision.bandwidth is not None:
        parts.append(f"sent at {rate(decision.bandwidth)}")
    if decision.expected_remainder_bytes is not None:
        left = size(decision.expected_remainder_bytes)
        cost = duration(decision.expected_downtime_ms)
        parts.append(f"a stop now would leave {left} and cost {cost}")
    return "; ".join(parts) or "nothing had been sent yet"


def rounds(report: Report) -> dict[str, object]:
    """Make a table with a row for each round.

    Args:
        report: Of one run.

    Returns:
        A table as `common.html.render` takes them.
    """
    return {
        "title": "",
        "left": 2,
        "columns": [
            *("round", "kind", "start", "duration", "on the wire", "rate", "pages", "by line"),
            *("lines", "zero pages", "lines drained before", "out of date after"),
        ],
        "rows": [
            [
                *(str(each.index), each.kind, duration(each.start_ms), duration(each.duration_ms)),
                size(each.bytes),
                rate(each.bytes / each.duration_ms * 1e3 if each.duration_ms > 0 else None),
                *(f"{each.pages:,}", count(each.line_pages), count(each.lines)),
                *(f"{each.zero_pages:,}", count(each.drained_lines)),
                f"{each.dirty_pages_after:,} ({share(each.dirty_ratio_after)})",
            ]
            for each in report.rounds
        ],
    }


@dataclass(frozen=True, slots=True)
class Way:
    """A row of the estimates, as text. kind: `measured`, `taken`, or nothing."""

    name: str
    downtime: str
    total: str
    bytes: str
    rounds: str
    kind: str = ""


def ways(report: Report) -> list[Way]:
    """List what was measured, the estimate of the same, and the estimates of other ways.

    Args:
        report: Of one run.

    Returns:
        In this order; empty where there are no estimates.
    """
    if not report.estimates:
        return []
    measured = Way(
        "measured",
        duration(report.downtime_ms),
        duration(report.total_time_ms),
        size(report.bytes_on_wire),
        f"{len(report.rounds)}",
        "measured",
    )
    taken = [_way(each) for each in report.estimates if each.taken]
    return [measured, *taken, *(_way(each) for each in report.estimates if not each.taken)]


def _way(each: EstimateReport) -> Way:
    def checked(text: str, error: float | None) -> str:
        return text if error is None else f"{text} ({signed(error)})"

    return Way(
        f"{each.name}, as taken" if each.taken else each.name,
        checked(duration(each.downtime_ms), each.error_downtime),
        checked(duration(each.total_time_ms), each.error_total_time),
        checked(size(each.bytes), each.error_bytes),
        f"{each.rounds}",
        "taken" if each.taken else "",
    )


def oracle(report: Report) -> str:
    """Say how far the run was from the least that was possible.

    Args:
        report: Of one run.

    Returns:
        A sentence; empty where that was not calculated.
    """
    least = report.oracle
    if least is None:
        return ""
    return (
        f"The least that any strategy could have done with this guest on this link:"
        f" {duration(least.least_downtime_ms)} of downtime (this run {least.downtime_ratio:,.2f} ×"
        f" that), {duration(least.least_total_time_ms)} in all ({least.total_time_ratio:,.2f} ×),"
        f" {size(least.least_bytes)} on the wire ({least.bytes_ratio:,.2f} ×): every page once,"
        " and a switch-over with nothing left to send."
    )


def prediction(report: Report) -> str:
    """Say what was measured for the prediction, and how well it held for the strategy taken.

    Args:
        report: Of one run.

    Returns:
        Sentences; empty where there was no prediction.
    """
    made = report.prediction
    if made is None:
        return ""
    text = (
        f"Before it began, the guest was looked at for {duration(made.measured_ms)}: it dirtied"
        f" {rate(made.dirty_rate)}, each page counted once. With {rate(made.bandwidth)}"
        f" {made.choice} was spoken for: {made.why}."
    )
    taken = made.taken
    if taken is None:
        return text
    return (
        f"{text} What was predicted of {taken.strategy} is off by {signed(taken.total_time_error)}"
        f" in the total time, {signed(taken.downtime_error)} in the downtime"
        f" ({duration(abs(taken.downtime_error_ms))}) and {signed(taken.bytes_error)} in its bytes."
    )


def predicted(report: Report) -> dict[str, object] | None:
    """Make a table with a row for each strategy, as predicted before the migration.

    Args:
        report: Of one run.

    Returns:
        A table as `common.html.render` takes them; None where there was no prediction.
    """
    if report.prediction is None:
        return None
    return {
        "title": "",
        "left": 1,
        "columns": ["strategy", "total time", "downtime", "on the wire", "rounds", "path"],
        "rows": [
            [
                each.strategy,
                duration(each.total_time_ms),
                duration(each.downtime_ms),
                f"{'at least ' if each.note else ''}{size(each.bytes)}",
                f"{each.rounds}",
                NOTHING if each.path is None else f"{each.path}",
            ]
            for each in report.prediction.strategies
        ],
    }


def absorbed(report: Report) -> str:
    """Say what the cache kept from memory.

    Args:
        report: Of one run.

    Returns:
        A sentence; empty where writes were not counted.
    """
    pages = report.pages
    if pages is None or not pages.writes_total or pages.write_backs_total is None:
        return ""
    kept = max(pages.writes_total - pages.write_backs_total, 0)
    ratio = kept / pages.writes_total
    return (
        f"At the source the guest wrote {pages.writes_total:,} lines of 64 bytes while it was being"
        f" moved, what the cache held at the beginning counted; {pages.write_backs_total:,} reached"
        f" memory: the cache absorbed {share(ratio)}."
    )


def configuration(report: Report) -> list[tuple[str, str]]:
    """List every option as used, and what ran it.

    Args:
        report: Of one run.

    Returns:
        (Option or name, value) as text, date and command first.
    """
    fields = MigrationConfig.model_fields
    out = [("date", report.date or NOTHING), ("command", report.command or NOTHING)]
    for name, value in report.config.items():
        if name == "max_bandwidth_text":  # the option itself says it
            continue
        if name == "max_bandwidth" and value is None:
            out.append(("--max-bandwidth", str(report.config.get("max_bandwidth_text", NOTHING))))
        elif isinstance(value, dict):
            out += [(f"{name}: {key}", str(each)) for key, each in value.items()]
        else:
            text_of: Callable[[Any], str] = str
            if isinstance(value, bool):
                text_of = {True: "yes", False: "no"}.__getitem__
            elif name in fields and isinstance(value, (int, float)):
                text_of = lambda value, name=name: shown(name, value)  # type: ignore[misc] # noqa: E731
            option = f"--{name.replace('_', '-')}" if name in fields else name.replace("_", " ")
            out.append((option, NOTHING if value is None else text_of(value)))
    return out
