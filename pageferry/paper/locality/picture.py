"""The map as a picture: a column of panels for each dirty rate, a row for each figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pageferry.common.html.picture import Figure, Picture, axis, layout, text
from pageferry.paper.locality.data import CLAIM, MapDocument, Place, places_of, rates_of
from pageferry.paper.locality.panel import LINE_AXIS, REUSE_AXIS, panel, suffix
from pageferry.paper.locality.program_marks import draw_programs, program_marks
from pageferry.paper.locality.programs import ProgramPlace, shipped_programs

_ROWS: Final = {"downtime_ms": "downtime", "total_ms": "total time"}
PROGRAMS_RATE: Final = 0.5  # of the panel on which programs are named
_GAP: Final = 0.02  # between panels, as a share of the width
_HIGH: Final = 0.46  # of a panel, as a share of the height


def map_pictures(found: MapDocument) -> list[Picture]:
    """Draw a map, and the programs and guests that come with this version on it.

    Args:
        found: The map.

    Returns:
        The map, and one of its panels with the programs' names.
    """
    simulated, programs = places_of(found.simulated), shipped_programs().places
    return [
        draw_map(simulated, places_of(found.measured), programs),
        draw_programs(simulated, programs, PROGRAMS_RATE),
    ]


def draw_map(
    simulated: Sequence[Place], measured: Sequence[Place], programs: Sequence[ProgramPlace] = ()
) -> Picture:
    """Draw the map: a column of panels for each dirty rate, a row for each figure.

    Args:
        simulated: The ground, at all places of the axes.
        measured: Circles on it, in the colours of the same scale.
        programs: How fast they write is not known, so that each is in every column: programs as
            diamonds with their paths, guests as ticks at the right edge.

    Returns:
        The picture.
    """
    rates = list(rates_of(simulated))
    data: list[Figure] = []
    axes: dict[str, Figure] = {}
    notes: list[Figure] = []
    for column, rate in enumerate(rates):
        for row, figure in enumerate(_ROWS):
            number = 1 + column + row * len(rates)
            ground = [each for each in simulated if each.point.rate == rate]
            spots = [each for each in measured if each.point.rate == rate]
            data += panel(ground, spots, figure, number, scale=number == 1)
            data += program_marks(programs, number)
            axes |= _axes(number, column, row, len(rates))
        notes.append(_caption(f"{rate:g} × link dirtied", column, len(rates)))
    look = (
        "Blue: with the cache it takes less than without. Inside the dark line the paper's claim of"
        f" {CLAIM} holds. Circles were measured, in the colours of the same scale."
    )
    if programs:
        look += (
            " Diamonds are real programs, with their paths from short windows to long ones; ticks"
            " at the right edge are the lines that real guests write of a page. How fast they write"
            " is not known, so that each is in every column; the next picture has their names."
        )
    return Picture(
        "map",
        "Where the cache pays: three-path with its cache / the same without",
        look,
        {"data": data, "layout": layout({}, {}, **axes, annotations=notes)},
        wide=True,
        height=640,
    )


def _axes(number: int, column: int, row: int, columns: int) -> dict[str, Figure]:
    """Describe the axes of a panel; only those at the left and below are named."""
    width = (1 - _GAP * (columns - 1)) / columns
    left = column * (width + _GAP)
    bottom = 1 - _HIGH if row == 0 else 0.0
    name, last = list(_ROWS.values())[row], row == len(_ROWS) - 1
    x = axis(
        "working set / cache" if last else "",
        **REUSE_AXIS,
        domain=[left, left + width],
        anchor=f"y{suffix(number)}",
        showticklabels=last,
    )
    y = axis(
        f"{name}: lines of a page" if column == 0 else "",
        **LINE_AXIS,
        domain=[bottom, bottom + _HIGH],
        anchor=f"x{suffix(number)}",
        showticklabels=column == 0,
    )
    return {f"xaxis{suffix(number)}": x, f"yaxis{suffix(number)}": y}


def _caption(said: str, column: int, columns: int) -> Figure:
    width = (1 - _GAP * (columns - 1)) / columns
    return {
        "text": text(said),
        "x": column * (width + _GAP) + width / 2,
        "y": 1.0,
        "xref": "paper",
        "yref": "paper",
        "xanchor": "center",
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 12},
    }
