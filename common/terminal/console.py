"""What a migration looks like on a terminal: progress while it runs, a table at its end."""

from __future__ import annotations

import math
import sys
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from pageferry.common.process.status import Status
from pageferry.common.report import summary
from pageferry.common.report.binding_limit import binding_limit_text as bound_words
from pageferry.common.report.limits import ended_by, missed_sentence
from pageferry.common.report.schema import Report
from pageferry.common.report.sections.network import NetReport
from pageferry.common.report.sections.prediction import PredictionReport
from pageferry.common.report.sections.rounds import RoundReport
from pageferry.common.terminal.live import LiveView
from pageferry.common.terminal.prediction import prediction_row, print_prediction
from pageferry.common.terminal.progress import Wish
from pageferry.common.units import figures, human_bytes


class ProgressView(LiveView):
    """A live view of one migration.

    Args:
        wish: What the user asked for.
    """

    def __init__(self, wish: Wish) -> None:
        super().__init__(
            wish,
            TextColumn("[bold]{task.description:<34}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[detail]}"),
        )
        self._task: TaskID | None = None
        self._noticed: str | None = None
        self._predicted: PredictionReport | None = None

    def update(self, status: Status) -> None:
        """Show this moment of the migration.

        Args:
            status: As the agent tells it. A notice in it is printed whether progress is wanted or
                not; a prediction once.
        """
        if status.notice not in (None, self._noticed):
            self._noticed = status.notice
            print(f"pageferry: {status.notice}", file=sys.stderr, flush=True)
        if status.prediction is not None and status.prediction != self._predicted:
            self._predicted = status.prediction
            if self._lines.form in ("bar", "plain"):
                print_prediction(status.prediction, self._progress.console)
        detail = _detail(status)
        if self._lines.on:
            words = " · ".join(part for part in (status.phase, detail) if part)
            self._lines.show(words, status.phase, _figures(status))
        if self._lines.form != "bar":
            return
        total = status.round_expected or None
        if self._task is None:
            self._task = self._progress.add_task(status.phase, total=total, detail="")
        self._progress.update(
            self._task,
            description=status.phase,
            total=total,
            completed=min(status.round_bytes, status.round_expected),
            detail=detail,
        )

    def print(self, line: str) -> None:
        """Print a line beside the bar; nothing where there is no bar.

        Args:
            line: Plain text; markup in it is not interpreted.
        """
        if self._lines.form == "bar":
            self._progress.console.print(line, markup=False, highlight=False)


def _detail(status: Status) -> str:
    """Write the figures beside the bar."""
    parts = []
    if status.total_bytes:
        parts = [human_bytes(status.total_bytes), f"{human_bytes(status.rate)}/s"]
    if status.dirty_ratio is not None:
        parts.append(f"{status.dirty_ratio:.1%} dirty")
    if status.elapsed_s:
        parts.append(f"{status.elapsed_s:.1f} s")
    return " · ".join(parts)


def _figures(status: Status) -> dict[str, Any]:
    """Return the figures for programs."""
    return {
        "round": status.round,
        "round_bytes": status.round_bytes,
        "round_expected_bytes": status.round_expected,
        "total_bytes": status.total_bytes,
        "rate_Bps": status.rate,
        "dirty_ratio": status.dirty_ratio,
        "elapsed_s": status.elapsed_s,
    }


def _kind(each: RoundReport) -> str:
    """Name a round's kind, and whether it was cut short."""
    return f"{each.kind} cut short" if each.pages_left else each.kind


def _rounds(report: Report) -> str:
    """Count the rounds by kind: `12 (full, 10 × dirty, final)`."""
    kinds = []
    for kind, alike in groupby(_kind(each) for each in report.rounds):
        count = len(list(alike))
        kinds.append(kind if count == 1 else f"{count:,} × {kind}")
    return f"{len(report.rounds):,} ({', '.join(kinds)})" if kinds else "–"


def _ms(value: float | None) -> str:
    """Write milliseconds; a dash for None."""
    if value is None:
        return "–"
    return f"{value:,.2f} ms" if value < 100 else f"{value:,.0f} ms"


def _ratio(report: Report) -> str:
    """Write the ratio by which a path was chosen: the one after the first round."""
    if not report.rounds or report.rounds[0].kind != "full":
        return "–"
    return f"{report.rounds[0].dirty_ratio_after:.2%} of memory changed in round 1"


def result_table(report: Report) -> Table:
    """Make the table of what a user wants to know first.

    Args:
        report: Of one run, of any outcome.

    Returns:
        A table for rich to print.
    """
    table = Table(
        title=Text(summary.headline(report)),
        show_header=False,
        title_justify="left",
        pad_edge=False,
    )
    table.add_column(style="bold")
    table.add_column()
    for name, value in _rows(report):
        table.add_row(name, value)
    return table


def result_rows(report: Report) -> list[tuple[str, str]]:
    """List the rows of the result table.

    Args:
        report: Of one run, of any outcome.

    Returns:
        (name, value) of each row as plain text.
    """
    return [(name, Text.from_markup(value).plain) for name, value in _rows(report)]


def _rows(report: Report) -> list[tuple[str, str]]:
    """List the rows of the result table, with rich's markup."""
    error = report.downtime_error_ms or 0.0
    plus_minus = f" ± {error:.2f} ms (two clocks)" if error else ""
    rows: list[tuple[str, str]] = [("outcome", summary.outcome(report))]
    if report.converged is False:
        rows.append(("converged", f"no: {ended_by(report)} ended the rounds"))
    simulated = summary.is_simulated(report)
    for missed in report.limits_missed:
        rows.append(("limit missed", missed_sentence(missed, simulated=simulated)))
    if report.path is not None:
        rows.append(("path", f"{report.path} ({_ratio(report)})"))
    rows += [
        ("downtime", _ms(report.downtime_ms) + plus_minus),
        ("total time", _ms(report.total_time_ms)),
        ("rounds", _rounds(report)),
        ("on the wire", human_bytes(report.bytes_on_wire)),
        ("pages sent", _sent(report)),
        ("zero pages", f"{report.zero_pages:,}"),
        ("guest speed", _speed(report)),
        ("guest's loss", summary.lost(report)),
        ("below half speed", summary.below_half(report)),
        ("longest gap", summary.gap(report)),
    ]
    rows += _where_measured(report)
    if not simulated:
        rows.append(("verified", _verified(report)))
    return rows


def _where_measured(report: Report) -> list[tuple[str, str]]:
    """List the rows that only some runs have."""
    rows = []
    if report.postcopy is not None:
        part = report.postcopy
        rows += [
            ("faults", summary.faults(part)),
            ("mechanism", escape(summary.mechanism(part))),
        ]
    if report.cache is not None:
        cache = report.cache
        accesses = cache.hits + cache.misses
        share = cache.hits / accesses if accesses else math.nan
        rows.append(
            (
                "cache",
                f"{share:.1%} hits, {cache.write_backs:,} write-backs, {cache.spills:,} spills",
            )
        )
    rows += _shorter(report)
    if report.cpu_s is not None:
        dest = "–" if report.cpu_s.dest is None else f"{report.cpu_s.dest:.2f} s"
        rows.append(("agents' CPU", f"{report.cpu_s.source:.2f} s source, {dest} destination"))
    if report.net is not None:
        rows.append(("network", _network(report.net)))
    if report.bound is not None and (words := bound_words(report.bound)) is not None:
        rows.append(("bound by", words))
    if report.oracle is not None:
        least = report.oracle
        rows.append(
            (
                "least possible",
                f"{_ms(least.least_downtime_ms)} of downtime,"
                f" {_ms(least.least_total_time_ms)} in all, {human_bytes(least.least_bytes)}",
            )
        )
    if report.prediction is not None:
        rows.append(("predicted", prediction_row(report.prediction)))
    return rows


def _shorter(report: Report) -> list[tuple[str, str]]:
    """List what compression and deltas gained, and cost."""
    rows = []
    packed, delta = report.compression, report.xbzrle
    if packed is not None:
        ratio = "–" if packed.ratio is None else f"{figures(packed.ratio, 3)} times"
        dest = "" if packed.cpu_s.dest is None else f" and {packed.cpu_s.dest:.2f} s"
        rows.append(
            (
                "compression",
                f"{packed.codec}: {human_bytes(packed.raw_bytes)} to {human_bytes(packed.bytes)},"
                f" {ratio}, for {packed.cpu_s.source:.2f} s{dest} of CPU;"
                f" {packed.batches_in_vain + packed.batches_skipped:,} of {packed.batches:,}"
                " batches as they were",
            )
        )
    if delta is not None:
        rate = "–" if delta.encoding_rate is None else f"{figures(delta.encoding_rate, 3)} times"
        missed = "–" if delta.cache_miss_rate is None else f"{delta.cache_miss_rate:.1%}"
        rows.append(
            (
                "deltas",
                f"{delta.pages:,} pages as {human_bytes(delta.bytes)}, {rate} shorter;"
                f" {missed} missed a cache of {human_bytes(delta.cache_size)},"
                f" {delta.overflow:,} overflowed",
            )
        )
    return rows


def _network(net: NetReport) -> str:
    """Write what the link was like."""
    return (
        f"{net.link}, {net.shaper}: {figures(net.rtt_ms, 3)} ms round trip,"
        f" {human_bytes(net.throughput_Bps)}/s there, {human_bytes(net.throughput_back_Bps)}/s back"
    )


def _sent(report: Report) -> str:
    """Write how many pages were sent."""
    again = f"{report.pages_sent:,} ({report.pages_resent:,} again"
    by_line = sum(each.line_pages or 0 for each in report.rounds)
    if by_line:
        again += f", {by_line:,} by line: {human_bytes(report.bytes_saved or 0)} saved"
    return again + ")"


def _speed(report: Report) -> str:
    """Write the guest's speeds."""
    guest = report.guest
    text = summary.speeds(guest) or "–"
    if guest.throttle_peak:
        text += f", throttled by up to {100 * guest.throttle_peak:.4g}%"
    return text


def _verified(report: Report) -> str:
    """Write whether the digests are equal."""
    if report.verified is None:
        if report.outcome != "completed":
            return "–"
        return "not finished" if report.config.get("verify") else "not asked"
    if report.verified:
        return f"yes: digest {escape(str(report.digest_dest))} at both ends"
    expected, found = escape(str(report.digest_source)), escape(str(report.digest_dest))
    return f"[bold red]NO[/]: {expected} expected, {found} found"


def print_report(report: Report) -> None:
    """Print the result table on standard output; nothing for a migration that never began.

    Args:
        report: Of one run.
    """
    if any(event.event == "migration-start" for event in report.events):
        Console(file=sys.stdout).print(result_table(report))
