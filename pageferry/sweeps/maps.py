"""The best competitor at each place of a sweep, and by how much: maps of two axes."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from pageferry.common.errors import UsageError
from pageferry.runs.rows import Spread
from pageferry.sweeps.columns import Scalar
from pageferry.sweeps.plan import one_line
from pageferry.sweeps.query import COMPETITORS, Query, label


@dataclass(frozen=True, slots=True)
class Rank:
    """A competitor at one place of a map.

    Attributes:
        name: The competitor.
        figure: Of its good cells there.
    """

    name: str
    figure: Spread


@dataclass(frozen=True, slots=True)
class MapPlace:
    """One place of a map.

    Attributes:
        ranks: The competitors that got there, best (least median) first.
    """

    ranks: tuple[Rank, ...]

    @property
    def open(self) -> bool:
        """Whether runs of the second overlap those of the best: which is better is unknown then."""
        if len(self.ranks) < 2:
            return False
        return self.ranks[1].figure.least <= self.ranks[0].figure.greatest


@dataclass(frozen=True, slots=True)
class Map:
    """The best competitor at each place.

    Attributes:
        title: The options that are the same everywhere on this map, though they vary in the sweep.
        x, y: The options of columns and rows; None for no axis.
        columns, rows: The values of `x` and of `y`; one None where there is no axis.
        places: By the values of `x` and `y`. Combinations that no cell has are missing.
    """

    title: str
    x: str | None
    y: str | None
    columns: tuple[Scalar, ...]
    rows: tuple[Scalar, ...]
    places: dict[tuple[Scalar, Scalar], MapPlace]


def choose_axes(query: Query, x: str | None, y: str | None) -> tuple[str | None, str | None]:
    """Choose the axes of the maps: those requested, or else the first ones that vary.

    Args:
        query: The results.
        x: What `--x` says; None chooses.
        y: What `--y` says; None chooses.

    Returns:
        The axes x and y; None where no axis is left.

    Raises:
        UsageError: Not an axis, the competitors' axis, or the same axis twice.
    """
    for option, wish in (("--x", x), ("--y", y)):
        if wish is not None and (wish not in query.axes or wish == COMPETITORS):
            known = ", ".join(a for a in query.axes if a != COMPETITORS) or "none, it has no others"
            raise UsageError(
                f"{option}: {one_line(wish)!r} is no axis of the sweep: expected {known}"
            )
    if x is not None and x == y:
        raise UsageError(f"--x and --y are both {x}: expected two axes")
    free = [a for a in query.varied() if a not in (COMPETITORS, x, y)]
    x = x or (free.pop(0) if free else None)
    y = y or (free.pop(0) if free else None)
    return x, y


def maps(query: Query, figure: str, x: str | None, y: str | None) -> list[Map]:
    """Make a map for each combination of the axes that are neither x, y nor the competitors.

    Args:
        query: The results.
        figure: The column of numbers by which the least median is the best.
        x: The axis of the columns; None for one column.
        y: The axis of the rows; None for one row.

    Returns:
        The maps, in the order of their values; none where only one competitor was run.
    """
    if COMPETITORS not in query.varied():
        return []
    rest = [a for a in query.varied() if a not in (COMPETITORS, x, y)]
    flat = [axis for axis in (x, y) if axis is not None]
    found: dict[tuple[Scalar, ...], dict[tuple[Scalar, Scalar], list[Rank]]] = {}
    for group in query.groups([figure], [*rest, *flat, COMPETITORS]):
        at = len(rest)
        where = dict(zip(flat, group.values[at:-1], strict=True))
        place = (where.get(x) if x else None, where.get(y) if y else None)
        ranks = found.setdefault(group.values[:at], {}).setdefault(place, [])
        spread = group.figures[figure]
        if spread is not None and not math.isnan(spread.median):
            ranks.append(Rank(str(group.values[-1]), spread))
    columns = tuple(query.values(x)) if x else (None,)
    rows = tuple(query.values(y)) if y else (None,)
    ordered = itertools.product(*(query.values(axis) for axis in rest))
    return [
        Map(
            title=label(rest, values),
            x=x,
            y=y,
            columns=columns,
            rows=rows,
            places={
                place: MapPlace(tuple(sorted(ranks, key=lambda rank: rank.figure.median)))
                for place, ranks in found[values].items()
            },
        )
        for values in ordered
        if values in found
    ]
