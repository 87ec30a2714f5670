"""What the benchmarks share: a row is a figure beside its reference.

A part is a module with a table `BENCHES` of functions `(Effort) -> rows`, by name.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rich.markup import escape
from rich.table import Table

QUICK_BYTES = 16 * 2**20
QUICK_SHARE = 0.05  # of the seconds, and of the counts


@dataclass(frozen=True)
class Effort:
    """How much is measured. quick: small and short, to see that it works; no figure to quote.

    against: another checkout, whose agents run in turn with these.
    """

    runs: int = 5
    quick: bool = False
    against: Path | None = None

    def size(self, n: int) -> int:
        """Bytes of memory."""
        return min(n, QUICK_BYTES) if self.quick else n

    def seconds(self, s: float) -> float:
        return s * QUICK_SHARE if self.quick else s

    def count(self, n: int) -> int:
        return max(int(n * QUICK_SHARE), 1) if self.quick else n


@dataclass(frozen=True)
class Bar:
    """What we hold ourselves to. of interval: the ratio, as far as its interval can tell."""

    of: Literal["ours", "ratio", "interval"]
    limit: Literal["at least", "at most"]
    value: float

    def met_by(self, figure: float) -> bool:
        return figure >= self.value if self.limit == "at least" else figure <= self.value

    def met_within(self, interval: tuple[float, float]) -> bool:
        """Whether any ratio of the interval would meet it: what is missed then is no chance."""
        return self.met_by(interval[1] if self.limit == "at least" else interval[0])

    def __str__(self) -> str:
        sign = "≥" if self.limit == "at least" else "≤"
        return f"{'ratio ' * (self.of != 'ours')}{sign} {self.value:g}"


def ratio_at_least(value: float) -> Bar:
    return Bar("ratio", "at least", value)


def at_most(value: float) -> Bar:
    return Bar("ours", "at most", value)


# No dearer, or no slower, than the reference beyond what chance explains.
NO_MORE = Bar("interval", "at most", 1.0)
NO_LESS = Bar("interval", "at least", 1.0)


@dataclass(frozen=True)
class Row:
    """One figure, in `unit`, and what it is compared with.

    ours, reference: medians of `values` and `references` (one a run), None where there are none.
    against: what the reference is. ratio: ours / reference. spread, ratio_spread: least and
    greatest, of the runs and of the runs' own ratios. interval: of the pairs' median ratio, 95 %,
    where they were measured in pairs and are enough; `ratio` is that median then. met: whether it
    reaches its bar. note: why a figure is missing, or what a reader must know of it. group: what
    several figures are of. failed: it was to be measured, and could not.
    """

    group: str
    name: str
    unit: str
    ours: float | None
    spread: tuple[float, float] | None
    against: str = ""
    reference: float | None = None
    ratio: float | None = None
    ratio_spread: tuple[float, float] | None = None
    bar: Bar | None = None
    met: bool | None = None
    note: str = ""
    values: list[float] = field(default_factory=list)
    references: list[float] = field(default_factory=list)
    failed: bool = False
    interval: tuple[float, float] | None = None

    def as_json(self, part: str) -> dict[str, Any]:
        return {"part": part, **asdict(self)}


def row(
    name: str,
    unit: str,
    values: Sequence[float],
    references: Sequence[float] | None = None,
    *,
    group: str = "",
    against: str = "",
    bar: Bar | None = None,
    note: str = "",
) -> Row:
    """values, references: one a run, in the order in which they were measured, side by side."""
    ours = statistics.median(values) if values else None
    reference = statistics.median(references) if references else None
    ratio = ours / reference if ours is not None and reference else None
    pairs = [a / b for a, b in zip(values, references or (), strict=False) if b]
    judged = ours if bar is not None and bar.of == "ours" else ratio
    return Row(
        group,
        name,
        unit,
        ours,
        _spread(values),
        against,
        reference,
        ratio,
        _spread(pairs),
        bar,
        bar.met_by(judged) if bar is not None and judged is not None else None,
        note,
        list(values),
        list(references or ()),
    )


def median_interval(
    values: Sequence[float], confidence: float = 0.95
) -> tuple[float, float] | None:
    """Bound the median of what the values were drawn from, whatever its distribution.

    By order statistics: the number of values below the median is binomial with p = 1/2, so that the
    interval from the (k+1)-th least to the (k+1)-th greatest misses it with a chance of twice the
    binomial's tail up to k. None where even the least and greatest can't promise `confidence`,
    which takes 6 values at 95 %. Source: Conover, Practical Nonparametric Statistics, 3.2.
    """
    n = len(values)
    tail, k = 0.0, -1
    while 2 * (tail + math.comb(n, k + 1) / 2**n) <= 1 - confidence:
        k += 1
        tail += math.comb(n, k) / 2**n
    ordered = sorted(values)
    return (ordered[k], ordered[n - 1 - k]) if k >= 0 else None


def paired_row(
    name: str,
    unit: str,
    values: Sequence[float],
    references: Sequence[float],
    *,
    group: str = "",
    against: str = "",
    bar: Bar | None = None,
) -> Row:
    """A row whose runs were measured in pairs: its ratio is the median of the pairs' ratios.

    A bar on the interval is not judged where there are too few pairs for one.
    """
    out = row(name, unit, values, references, group=group, against=against)
    pairs = [a / b for a, b in zip(values, references, strict=True) if b]
    interval = median_interval(pairs)
    met = bar.met_within(interval) if bar is not None and interval is not None else None
    ratio = statistics.median(pairs) if pairs else None
    return replace(out, ratio=ratio, interval=interval, bar=bar, met=met)


def absent(name: str, note: str) -> Row:
    """What can't be measured here, and why."""
    return row(name, "", [], note=note)


def failure(name: str, why: str) -> Row:
    """What went wrong in place of figures."""
    return replace(absent(name, f"failed: {why}"), failed=True)


Bench = Callable[[Effort], list[Row]]


def _spread(values: Sequence[float]) -> tuple[float, float] | None:
    return (min(values), max(values)) if values else None


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _between(spread: tuple[float, float] | None) -> str:
    return "" if spread is None else f"{spread[0]:.4g} – {spread[1]:.4g}"


def table(title: str, results: Sequence[Row]) -> Table:
    """Rows of a group stand under its name."""
    out = Table(title=title, title_justify="left", pad_edge=False)
    paired = any(each.interval for each in results)
    between = "95 % of the ratio" if paired else "least – greatest"
    for heading in ("", "ours", "unit", "reference", "ratio", between, "bar"):
        left = heading in ("", "unit", "bar")
        out.add_column(heading, justify="left" if left else "right", no_wrap=heading != "")
    above = ""
    for each in results:
        name = each.name
        if each.group:
            heading = _heading(each.group, each)
            if heading != above:
                out.add_section()
                out.add_row(f"[bold]{escape(heading)}[/]")
            above, name = heading, f"  {name}"
        else:
            name = _heading(name, each)
        out.add_row(escape(name), *_cells(each, each.interval if paired else each.spread))
    return out


def _heading(name: str, each: Row) -> str:
    against = f"; against {each.against}" * bool(each.against)
    return name + against + f" ({each.note})" * bool(each.note)


def _cells(each: Row, spread: tuple[float, float] | None) -> list[str]:
    bar = "" if each.bar is None else str(each.bar)
    if each.met is not None:
        bar += ": met" if each.met else ": missed"
    ratio = "" if each.ratio is None else f"{each.ratio:.3g}"
    figures = [_figure(each.ours), each.unit, _figure(each.reference), ratio]
    return [*figures, _between(spread), bar]
