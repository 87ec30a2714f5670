"""What happened in a run, row by row: vital figures, decisions, rounds, estimates, options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pageferry.common.config.model import MigrationConfig, value_words
from pageferry.common.html.formatting import count, deviation, duration, rate, share, size
from pageferry.common.report.limits import DOWNTIME, TIMEOUT
from pageferry.common.report.schema import Report
from pageferry.common.report.sections.estimates import EstimateReport
from pageferry.common.report.sections.rounds import DecisionReport
from pageferry.common.report.slowdown import below_half_ms, slowdown
from pageferry.common.report.summary import GAP, NOTHING, is_simulated, loss


@dataclass(frozen=True, slots=True)
class Vital:
    """One of the figures at the top.

    Attributes:
        name: What it is called.
        value: The figure as text.
        about: What it is, and of what.
        mood: `good`, `bad` or nothing.
    """

    name: str
    value: str
    about: str
    mood: str = ""


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
class DecisionRow:
    """One decision, as text.

    Attributes:
        when: After which round.
        seen: What was measured until then.
        decided: The decision's name.
        why: The strategy's reason.
    """

    when: str
    seen: str
    decided: str
    why: str


def decisions(report: Report) -> list[DecisionRow]:
    """List the strategy's decisions as text.

    Args:
        report: Of one run.

    Returns:
        All of them, in order.
    """
    return [
        DecisionRow(
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


def rounds_table(report: Report) -> dict[str, object]:
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
class EstimateRow:
    """A row of the estimates, as text.

    Attributes:
        name: The strategy or path; `measured`.
        downtime: With the estimate's error, where that is known; so are the next two.
        total: The total time.
        bytes: On the wire.
        rounds: How many.
        kind: `measured`, `taken`, or nothing.
    """

    name: str
    downtime: str
    total: str
    bytes: str
    rounds: str
    kind: str = ""


def ways(report: Report) -> list[EstimateRow]:
    """List what was measured, the estimate of the same, and the estimates of other ways.

    Args:
        report: Of one run.

    Returns:
        In this order; empty where there are no estimates.
    """
    if not report.estimates:
        return []
    measured = EstimateRow(
        "measured",
        duration(report.downtime_ms),
        duration(report.total_time_ms),
        size(report.bytes_on_wire),
        f"{len(report.rounds)}",
        "measured",
    )
    taken = [_way(each) for each in report.estimates if each.taken]
    return [measured, *taken, *(_way(each) for each in report.estimates if not each.taken)]


def _way(each: EstimateReport) -> EstimateRow:
    def checked(text: str, error: float | None) -> str:
        return text if error is None else f"{text} ({deviation(error)})"

    return EstimateRow(
        f"{each.name}, as taken" if each.taken else each.name,
        checked(duration(each.downtime_ms), each.error_downtime),
        checked(duration(each.total_time_ms), each.error_total_time),
        checked(size(each.bytes), each.error_bytes),
        f"{each.rounds}",
        "taken" if each.taken else "",
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
                text_of = lambda value, name=name: value_words(name, value)  # type: ignore[misc] # noqa: E731
            option = f"--{name.replace('_', '-')}" if name in fields else name.replace("_", " ")
            out.append((option, NOTHING if value is None else text_of(value)))
    return out
