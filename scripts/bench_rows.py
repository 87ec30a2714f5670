"""What the benchmarks share: a row is a figure beside its reference; the command prints rows."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One figure. spread: least and greatest of the runs. ratio: ours / reference."""

    name: str
    ours: float
    unit: str
    reference: float | None
    ratio: float | None
    spread: tuple[float, float]


def row(name: str, unit: str, values: list[float], references: list[float] | None = None) -> Row:
    ours = statistics.median(values)
    reference = statistics.median(references) if references else None
    ratio = ours / reference if reference else None
    return Row(name, ours, unit, reference, ratio, (min(values), max(values)))


def table(title: str, results: list[Row]) -> Table:
    out = Table(title=title)
    for heading in ("", "ours", "unit", "reference", "ratio", "least - greatest"):
        out.add_column(heading, justify="left" if heading in ("", "unit") else "right")
    for each in results:
        out.add_row(
            each.name,
            f"{each.ours:.4g}",
            each.unit,
            "" if each.reference is None else f"{each.reference:.4g}",
            "" if each.ratio is None else f"{each.ratio:.3g}",
            f"{each.spread[0]:.4g} - {each.spread[1]:.4g}",
        )
    return out


def command(
    title: str, names: Iterable[str], rows: Callable[[int, list[str] | None], list[Row]]
) -> None:
    """The command line of one set of benchmarks."""
    known = list(names)
    parser = argparse.ArgumentParser(description=f"Benchmarks of {title}.")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(known)}; default: all")
    parser.add_argument("--json", action="store_true", help="rows as JSON on standard output")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"unknown: {', '.join(unknown)}")
    results = rows(options.runs, options.names)
    if options.json:
        print(json.dumps([asdict(each) for each in results], indent=1))
    else:
        Console().print(table(title, results))
