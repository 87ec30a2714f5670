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
    """Tell whether a report was calculated in virtual time: nothing ran, and nothing was moved.

    Args:
        report: Of one run.

    Returns:
        Whether its configuration says so.
    """
    return report.config.get("simulated") is True


def headline(report: Report) -> str:
    """Say what was run: `three-path · zipf · 1GiB`.

    Args:
        report: Of one run; for a simulation that word comes first.

    Returns:
        What is known of it.
    """
    config = report.config
    parts = [SIMULATED] if is_simulated(report) else []
    parts += [report.strategy, str(config.get("workload", ""))]
    memory = config.get("memory")
    if isinstance(memory, int) and memory > 0:
        parts.append(format_size(memory))
    return " · ".join(part for part in parts if part)


def loss(lost: float | None) -> str:
    """Write a loss of speed: `21.6 %`, or `3.1 % faster than before` where there is none.

    Args:
        lost: A fraction of the speed, negative: a gain; None: not known.

    Returns:
        A dash where it is not known or not finite.
    """
    if lost is None or not math.isfinite(lost):
        return NOTHING
    text = f"{100 * abs(lost):.1f} %"
    return f"{text} faster than before" if lost < 0 and text != "0.0 %" else text


def lost(report: Report) -> str:
    """Say how much of its speed the guest lost, and what that counts.

    Args:
        report: Of one run.

    Returns:
        A dash where it is not known.
    """
    text = loss(slowdown(report))
    if text == NOTHING:
        return text
    return f"{text}, {COUNTED}" if text.endswith("before") else f"{text} of its speed, {COUNTED}"


def below_half(report: Report) -> str:
    """Say for how long the guest crept.

    Args:
        report: Of one run.

    Returns:
        A dash where it is not known.
    """
    ms = below_half_ms(report)
    return NOTHING if ms is None else f"{milliseconds(ms)}, downtime counted"


def gap(report: Report) -> str:
    """Say how long the longest gap was, and what counts as a gap.

    Args:
        report: Of one run.

    Returns:
        A dash where it is not known.
    """
    ms = report.guest.longest_gap_ms
    if ms is None:
        return NOTHING
    if is_simulated(report):
        return f"{milliseconds(ms)}, the downtime: a simulation knows no other"
    return f"{milliseconds(ms)} {GAP}"


def speeds(guest: GuestReport) -> str | None:
    """List the guest's speeds before, until the resume and after it, with when each was.

    Args:
        guest: Of a report.

    Returns:
        None where none is known.
    """
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
    """Say how the run ended; for a simulation, that nothing was moved.

    Args:
        report: Of one run.

    Returns:
        A word or two.
    """
    return f"{SIMULATED}: nothing was moved" if is_simulated(report) else report.outcome


def faults(part: PostcopyReport) -> str:
    """Count the faults, with their latencies: `1,664, p50 0.31 ms, p99 12.4 ms, longest 22.0 ms`.

    Args:
        part: A report's post-copy.

    Returns:
        The count alone where latencies are not known.
    """
    known = part.fault_latency_us
    if known is None:
        return f"{part.faults:,}"
    of = (("p50", known.p50), ("p99", known.p99), ("longest", known.max))
    texts = [f"{name} {milliseconds(us / 1e3)}" for name, us in of if us is not None]
    return ", ".join([f"{part.faults:,}", *texts])


def mechanism(part: PostcopyReport) -> str:
    """Say how the guest was stopped at a missing page, and why in that way.

    Args:
        part: A report's post-copy.

    Returns:
        The mechanism, and its reason where there is one.
    """
    why = f": {part.mechanism_reason}" if part.mechanism_reason else ""
    return f"{part.mechanism}{why}"


def milliseconds(ms: float) -> str:
    """Write milliseconds: `0.072 ms`, `3.91 ms`, `1,035 ms`.

    Args:
        ms: Any finite number.

    Returns:
        With its unit.
    """
    if abs(ms) < 1:
        return f"{ms:.3f} ms"
    return f"{ms:,.2f} ms" if abs(ms) < 100 else f"{ms:,.0f} ms"
