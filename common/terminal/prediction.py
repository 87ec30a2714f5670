"""A prediction as a terminal shows it: a table before the migration, a line after it."""

from __future__ import annotations

from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pageferry.common.report.sections.prediction import PredictionReport, StrategyPrediction
from pageferry.common.units import human_bytes

_FROM: Final = {
    "limit": "the limit",
    "assumed": "--assume-bandwidth",
    "loopback": "what loopback carried while the guest ran",
}


def prediction_table(prediction: PredictionReport) -> Table:
    """Make a table with a row for each strategy; the chosen one is marked.

    Args:
        prediction: From before the migration.

    Returns:
        A table for rich to print.
    """
    table = Table(
        title=Text(f"predicted: {measured_line(prediction)}"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("strategy", no_wrap=True)
    for name in ("total ms", "downtime ms", "on the wire", "rounds", "path"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in prediction.strategies:
        chosen = each.strategy == prediction.choice
        name = f"{each.strategy} *" if chosen else each.strategy
        table.add_row(name, *_cells(each), style="bold" if chosen else None)
    return table


def _cells(each: StrategyPrediction) -> tuple[str, ...]:
    """Write what a strategy is expected to cost."""
    least = "≥ " if each.note else ""
    return (
        f"{each.total_time_ms:,.0f}",
        f"{each.downtime_ms:,.3g}" if each.downtime_ms < 1000 else f"{each.downtime_ms:,.0f}",
        f"{least}{human_bytes(each.bytes)}",
        f"{each.rounds}",
        "–" if each.path is None else f"{each.path}",
    )


def measured_line(prediction: PredictionReport) -> str:
    """Say what was measured for a prediction.

    Args:
        prediction: From before the migration.

    Returns:
        A clause without a full stop.
    """
    last = prediction.curve[-1] if prediction.curve else None
    seen = "" if last is None else f" ({last.pages:,} pages, {last.lines:,} lines)"
    return (
        f"{human_bytes(prediction.dirty_rate)}/s dirtied over {prediction.measured_ms / 1e3:.3g} s"
        f"{seen}"
    )


def notes(prediction: PredictionReport) -> list[str]:
    """List what belongs below the table.

    Args:
        prediction: From before the migration.

    Returns:
        Sentences: the choice, the bandwidth, the guest's speed, then remarks on single strategies
        and what was not predicted.
    """
    rate, why = _rate(prediction.bandwidth), _FROM[prediction.bandwidth_from]
    before, meanwhile = prediction.steps_per_s_before, prediction.steps_per_s_while
    speed = f"guest: {meanwhile:,.0f} steps/s while it was measured"
    if before:
        speed += f", {before:,.0f} before ({100 * (meanwhile / before - 1):+.1f} %)"
    out = [
        f"* {prediction.choice}: {prediction.why}.",
        f"Bandwidth: {rate}, {why}.",
        f"{speed[0].upper()}{speed[1:]}.",
    ]
    out += [f"{each.strategy} {each.note}." for each in prediction.strategies if each.note]
    out += [_in_vain(each) for each in prediction.strategies if not each.converges]
    return out + [f"Not predicted: {each}." for each in prediction.not_predicted]


def _in_vain(each: StrategyPrediction) -> str:
    """Say that a strategy is not expected to converge."""
    return (
        f"{each.strategy} does not converge: the guest writes faster than its rounds shrink, and"
        f" after {each.rounds - 1} of them it stops with what is left."
    )


def _rate(bandwidth: float | None) -> str:
    """Write a bandwidth; None is unlimited."""
    return "unlimited" if bandwidth is None else f"{human_bytes(bandwidth)}/s"


def print_prediction(prediction: PredictionReport, console: Console) -> None:
    """Print the table of a prediction, and its notes.

    Args:
        prediction: From before the migration.
        console: Where to print it.
    """
    console.print(prediction_table(prediction))
    for note in notes(prediction):
        console.print(Text(note), width=min(console.width, 100), highlight=False)


def prediction_row(prediction: PredictionReport) -> str:
    """Say how well a prediction held: `2,703 ms in all (+0.3 %), 2.4 ms down (-0.6 ms, -20 %)`.

    Args:
        prediction: As the report has it, after the migration.

    Returns:
        One line.
    """
    taken = prediction.taken
    if taken is None:
        return "the migration did not end as predicted: no figures to compare"
    said = next(each for each in prediction.strategies if each.strategy == taken.strategy)
    down = f"{said.downtime_ms:,.3g}" if said.downtime_ms < 1000 else f"{said.downtime_ms:,.0f}"
    return (
        f"{said.total_time_ms:,.0f} ms in all ({100 * taken.total_time_error:+.1f} %),"
        f" {down} ms down ({taken.downtime_error_ms:+,.3g} ms,"
        f" {100 * taken.downtime_error:+.0f} %), {human_bytes(said.bytes)}"
        f" ({100 * taken.bytes_error:+.1f} %)"
    )
