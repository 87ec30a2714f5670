"""The map as data: what is shipped, what a measurement makes, and ratios of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pydantic import BaseModel, ConfigDict

from pageferry.paper.locality.points import Point, Way

CLAIM: Final = 0.4
FIGURES: Final = ("downtime_ms", "total_ms", "bytes")


class PlaceRow(NamedTuple):
    """How a guest moved at a place of the map in one way: medians of its runs.

    Attributes:
        lines, reuse, rate, reads: The place, as `Point` has it.
        way: How it was moved, a value of `Way`.
        downtime_ms: The downtime.
        total_ms: The total time.
        bytes: On the wire.
        path: Which of the three paths was taken; None of pre-copy.
        rounds: How many, the final one counted.
        runs: How many runs the medians are of; 0: it was simulated.
        verified: How many of them were verified by replay.
        downtime_spread: Greatest - least downtime of the runs, ms.
        total_spread: The same of the total time.
    """

    lines: int
    reuse: float
    rate: float
    reads: float
    way: str
    downtime_ms: float
    total_ms: float
    bytes: int
    path: int | None
    rounds: int
    runs: int = 0
    verified: int = 0
    downtime_spread: float = 0.0
    total_spread: float = 0.0

    @property
    def point(self) -> Point:
        """The place."""
        return Point(self.lines, self.reuse, self.rate, self.reads)


class MapDocument(BaseModel):
    """The map as it is stored.

    Attributes:
        made: The day on which it was measured, ISO 8601.
        machine: What it was measured on: processor, cores, kernel, versions.
        simulated: A row for each place and way, in virtual time.
        measured: Rows of real memory.
    """

    model_config = ConfigDict(frozen=True)

    made: str
    machine: dict[str, str]
    simulated: tuple[PlaceRow, ...]
    measured: tuple[PlaceRow, ...]

    @property
    def places(self) -> list[Place]:
        """All measured places, those of the smaller map last."""
        return [*places_of(self.measured), *places_of(self.measured, reads=True)]

    def to_json(self) -> str:
        """Write the document as JSON, one row a line."""
        head = {"made": self.made, "machine": self.machine}
        parts = [json.dumps(head, indent=1)[:-2]]
        for name in ("simulated", "measured"):
            rows = ",\n".join("  " + json.dumps(list(row)) for row in getattr(self, name))
            parts.append(f' "{name}": [\n{rows}\n ]')
        return ",\n".join(parts) + "\n}\n"


@dataclass(frozen=True, slots=True)
class Place:
    """A place of the map with all ways in which its guest was moved.

    Attributes:
        point: The place.
        rows: By way.
    """

    point: Point
    rows: Mapping[Way, PlaceRow]

    def ratio(self, figure: str, to: Way = Way.UNCACHED) -> float:
        """Return what moving it with the cache takes / what another way takes.

        Args:
            figure: One of `FIGURES`.
            to: The other way.

        Returns:
            Below 1 where the cache pays.
        """
        ours, theirs = getattr(self.rows[Way.CACHED], figure), getattr(self.rows[to], figure)
        return float(ours / theirs)

    def holds(self, figure: str) -> bool:
        """Tell whether the paper's claim holds here for a figure."""
        return self.ratio(figure) <= CLAIM

    @property
    def path(self) -> int | None:
        """The path that was taken with the cache."""
        return self.rows[Way.CACHED].path


def places_of(rows: Iterable[PlaceRow], *, reads: bool = False) -> list[Place]:
    """Put the ways of each place together.

    Args:
        rows: In any order.
        reads: Whether the smaller map is wanted, with reads.

    Returns:
        Places that have all ways, in order.
    """
    by: dict[Point, dict[Way, PlaceRow]] = {}
    for row in rows:
        if (row.reads > 0) == reads:
            by.setdefault(row.point, {})[Way(row.way)] = row
    return [Place(point, by[point]) for point in sorted(by) if len(by[point]) == len(Way)]


def rates_of(places: Iterable[Place]) -> Iterator[float]:
    """Yield the dirty rates of places, each once, rising."""
    yield from sorted({place.point.rate for place in places})


def to_json(places: Iterable[Place]) -> list[dict[str, Any]]:
    """Convert places for programs.

    Args:
        places: With all of their ways.

    Returns:
        A row each: the place, its path, and ratios to both other ways.
    """
    return [
        {
            **place.point._asdict(),
            "path": place.path,
            **{f"{name}_ratio": place.ratio(name) for name in FIGURES},
            **{f"{name}_ratio_to_pre_copy": place.ratio(name, Way.PRE_COPY) for name in FIGURES},
            "runs": place.rows[Way.CACHED].runs,
        }
        for place in places
    ]
