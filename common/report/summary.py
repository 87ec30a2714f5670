"""What is said of a report in all places alike: the terminal's table, the page, comparisons."""

from __future__ import annotations

import math
from typing import Final

from pageferry.common.report.schema import Report
from pageferry.common.report.sections.guest import GuestReport
from pageferry.common.report.sections.postcopy import PostcopyReport
from pageferry.common.report.slowdown import below_half_ms, slowdown
from pageferry.common.units import format_size

NOTHING: Final = "–"
SIMULATED: Final = "simulated"

# What is counted, for wherever the figure is printed.
COUNTED: Final = "downtime and waiting for pages counted"
LOST_SHARE: Final = (
    "the share of its speed that the guest lost between the migration's start and its end,"
    " downtime, waiting for pages and recovery counted"
)
GAP: Final = "between two beats of a vCPU, one a quantum: faults within it add up"


def is_simulated(report: Report) -> bool:
    """Whether it was calculated in virtual time: nothing ran, and nothing was moved."""
    return report.config.get("simulated") is True


def headline(report: Report) -> str:
    """What was run: `three-path · zipf · 1GiB`; of a simulation that word comes first."""
    config = report.config
    parts = [SIMULATED] if is_simulated(report) else []
    parts += [report.strategy, str(config.get("workload", ""))]
    memory = config.get("memory")
    if isinstance(memory, int) and memory > 0:
        parts.append(format_size(memory))
    return " · ".join(part for part in parts if part)


def loss(lost: float | None) -> str:
    """`21.6 %`, or `3.1 % faster than before`: a gain is no loss of nothing."""
    if lost is None or not math.isfinite(lost):
        return NOTHING
    text = f"{100 * abs(lost):.1f} %"
    return f"{text} faster than before" if lost < 0 and text != "0.0 %" else text


def lost(report: Report) -> str:
    """The guest's loss, and of what it is the share."""
    text = loss(slowdown(report))
    if text == NOTHING:
        return text
    return f"{text}, {COUNTED}" if text.endswith("before") else f"{text} of its speed, {COUNTED}"


def below_half(report: Report) -> str:
    """For how long the guest crept."""
    ms = below_half_ms(report)
    return NOTHING if ms is None else f"{milliseconds(ms)}, downtime counted"


def gap(report: Report) -> str:
    """The longest one, and what is counted as one."""
    ms = report.guest.longest_gap_ms
    if ms is None:
        return NOTHING
    if is_simulated(report):
        return f"{milliseconds(ms)}, the downtime: a simulation knows no other"
    return f"{milliseconds(ms)} {GAP}"


def speeds(guest: GuestReport) -> str | None:
    """Before, until the resume, after it: each says when it was. None where none is known."""
    known = [
        (guest.steps_per_s_before, "before"),
        (guest.steps_per_s_during, "up to the resume"),
        (guest.steps_per_s_after, "after it"),
    ]
    parts = [(f"{speed:,.0f}", when) for speed, when in known if speed is not None]
    if not parts:
        return None
    (first, when), *rest = parts
    return ", ".join([f"{first} steps/s {when}", *(f"{speed} {word}" for speed, word in rest)])


def outcome(report: Report) -> str:
    """How it ended; of a simulation, that nothing did."""
    return f"{SIMULATED}: nothing was moved" if is_simulated(report) else report.outcome


def faults(part: PostcopyReport) -> str:
    """`1,664, p50 0.31 ms, p99 12.4 ms, longest 22.0 ms`."""
    known = part.fault_latency_us
    if known is None:
        return f"{part.faults:,}"
    of = (("p50", known.p50), ("p99", known.p99), ("longest", known.max))
    texts = [f"{name} {milliseconds(us / 1e3)}" for name, us in of if us is not None]
    return ", ".join([f"{part.faults:,}", *texts])


def mechanism(part: PostcopyReport) -> str:
    """How the guest was stopped at a missing page, and why so."""
    why = f": {part.mechanism_reason}" if part.mechanism_reason else ""
    return f"{part.mechanism}{why}"


def milliseconds(ms: float) -> str:
    """`0.072 ms`, `3.91 ms`, `1,035 ms`."""
    if abs(ms) < 1:
        return f"{ms:.3f} ms"
    return f"{ms:,.2f} ms" if abs(ms) < 100 else f"{ms:,.0f} ms"
