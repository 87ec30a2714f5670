"""What the benchmarks share: a row is a figure beside its reference.

A part is a module with a table `BENCHES` of functions `(Effort) -> rows`, by name.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from rich.markup import escape
from rich.table import Table

QUICK_BYTES = 16 * 2**20
QUICK_SHARE = 0.05  # of the seconds, and of the counts


@dataclass(frozen=True)
class Effort:
    """How much is measured. quick: small and short, to see that it works; no figure to quote."""

    runs: int = 5
    quick: bool = False

    def size(self, n: int) -> int:
        """Bytes of memory."""
        return min(n, QUICK_BYTES) if self.quick else n

    def seconds(self, s: float) -> float:
        return s * QUICK_SHARE if self.quick else s

    def count(self, n: int) -> int:
        return max(int(n * QUICK_SHARE), 1) if self.quick else n


@dataclass(frozen=True)
class Bar:
    """What we hold ourselves to."""

    of: Literal["ours", "ratio"]
    limit: Literal["at least", "at most"]
    value: float

    def met_by(self, figure: float) -> bool:
        return figure >= self.value if self.limit == "at least" else figure <= self.value

    def __str__(self) -> str:
        sign = "≥" if self.limit == "at least" else "≤"
        return f"{'ratio ' * (self.of == 'ratio')}{sign} {self.value:g}"


def ratio_at_least(value: float) -> Bar:
    return Bar("ratio", "at least", value)


def at_most(value: float) -> Bar:
    return Bar("ours", "at most", value)


@dataclass(frozen=True)
class Row:
    """One figure, in `unit`, and what it is compared with.

    ours, reference: medians of `values` and `references` (one a run), None where there are none.
    against: what the reference is. ratio: ours / reference. spread, ratio_spread: least and
    greatest, of the runs and of the runs' own ratios. met: whether it reaches its bar. note: why a
    figure is missing, or what a reader must know of it. group: what several figures are of.
    failed: it was to be measured, and could not.
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
    for heading in ("", "ours", "unit", "reference", "ratio", "least – greatest", "bar"):
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
        out.add_row(escape(name), *_cells(each))
    return out


def _heading(name: str, each: Row) -> str:
    against = f"; against {each.against}" * bool(each.against)
    return name + against + f" ({each.note})" * bool(each.note)


def _cells(each: Row) -> list[str]:
    bar = "" if each.bar is None else str(each.bar)
    if each.met is not None:
        bar += ": met" if each.met else ": missed"
    ratio = "" if each.ratio is None else f"{each.ratio:.3g}"
    figures = [_figure(each.ours), each.unit, _figure(each.reference), ratio]
    return [*figures, _between(each.spread), bar]
