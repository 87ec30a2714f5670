"""Series reduced to what a picture can hold: no extreme is lost, and the picture says so.

A picture is about a thousand pixels wide. Of all points in one column of pixels the first, the
least, the greatest and the last are kept: what is drawn looks the same as with all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

COLUMNS: Final = 1500  # of pixels, wider than the page ever is

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Thinned:
    """What is left of a series.

    Attributes:
        points: In order of x.
        of: How many finite points there were.
    """

    points: list[Point]
    of: int

    @property
    def note(self) -> str:
        """What to say beside the picture; empty where everything is drawn."""
        if len(self.points) == self.of:
            return ""
        return (
            f"{len(self.points):,} of {self.of:,} points are drawn: of each column of pixels the"
            " first, the last, the least and the greatest."
        )


def thin_points(points: Sequence[Point], columns: int = COLUMNS) -> Thinned:
    """Reduce a series to at most four points for each column of pixels.

    Args:
        points: (x, y) in any order; those that are not finite are left out.
        columns: Columns of pixels.

    Returns:
        The points in order of x; all of them where they are few.
    """
    ordered = sorted(
        (point for point in points if math.isfinite(point[0]) and math.isfinite(point[1])),
        key=lambda point: point[0],
    )
    if len(ordered) <= 4 * columns:
        return Thinned(ordered, len(ordered))
    first, span = ordered[0][0], ordered[-1][0] - ordered[0][0]
    out: list[Point] = []
    begin = 0
    for column in range(columns):
        until = first + span * (column + 1) / columns
        end = begin
        while end < len(ordered) and (ordered[end][0] < until or column == columns - 1):
            end += 1
        out += _extremes(ordered[begin:end])
        begin = end
    return Thinned(out, len(ordered))


def _extremes(points: Sequence[Point]) -> list[Point]:
    """Return the first, the least, the greatest and the last point, in order."""
    if not points:
        return []
    places = range(len(points))
    low = min(places, key=lambda place: points[place][1])
    high = max(places, key=lambda place: points[place][1])
    return [points[place] for place in sorted({0, low, high, len(points) - 1})]


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """A unit in which a span of time is read well.

    Attributes:
        unit: `ms`, `s` or `min`.
        scale: What milliseconds are multiplied with.
    """

    unit: str
    scale: float

    @staticmethod
    def of(span_ms: float) -> TimeAxis:
        """Choose a unit for a span.

        Args:
            span_ms: Its length, ms.

        Returns:
            Milliseconds below 1.5 s, minutes from 10 min on, seconds in between.
        """
        if span_ms >= 600_000:
            return TimeAxis("min", 1 / 60_000)
        return TimeAxis("s", 1e-3) if span_ms >= 1_500 else TimeAxis("ms", 1.0)

    def __call__(self, t_ms: float) -> float:
        """Convert milliseconds to this unit."""
        return t_ms * self.scale


def finite(value: Any) -> Any:
    """Replace what JSON has no number for by None.

    Args:
        value: Numbers, texts, and lists, tuples and dicts of them, to any depth; is not changed.

    Returns:
        A copy, with lists for tuples.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    return value
