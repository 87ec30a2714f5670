"""What happened in a run, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from pageferry.common.html.formatting import deviation, duration, rate, share, size
from pageferry.common.report.limits import ended_by, missed_sentence
from pageferry.common.report.schema import Report
from pageferry.common.report.summary import is_simulated


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
        yield f" {missed_sentence(missed, simulated=is_simulated(report))}."


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


def oracle_sentence(report: Report) -> str:
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


def prediction_sentence(report: Report) -> str:
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
        f"{text} What was predicted of {taken.strategy} is off by"
        f" {deviation(taken.total_time_error)} in the total time,"
        f" {deviation(taken.downtime_error)} in the downtime"
        f" ({duration(abs(taken.downtime_error_ms))}) and {deviation(taken.bytes_error)} in its"
        " bytes."
    )


def cache_sentence(report: Report) -> str:
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
