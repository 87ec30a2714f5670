"""Real programs and guests on the map's panels: diamonds with their paths, and ticks at the edge.

How fast they write is not known, so that each stands at the same spot in the panel of every dirty
rate: a line through the map. A program's diamond is its longest window, the path to it comes from
shorter ones. Of guests the lines of a page are known best, their working sets only as far as an
emulated machine got within its time: on the map's panels they are ticks at the right edge.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

from pageferry.common.html.picture import Figure, Picture, axis, layout, text
from pageferry.paper.locality.data import Place
from pageferry.paper.locality.panel import (
    LINE_AXIS,
    LINE_TICKS,
    MARK,
    REUSE_AXIS,
    REUSE_TICKS,
    axes_of,
    log_within,
    panel,
)
from pageferry.paper.locality.programs import ProgramPlace, WrittenSet

_LABEL: Final = "rgba(255, 255, 255, 0.8)"  # behind a name, so that it can be read on any ground
_FAINT: Final = "rgba(27, 36, 48, 0.35)"
_FILL: Final = {"program": "#ffffff", "guest": "rgba(0, 0, 0, 0)"}
_EDGE: Final = math.log2(max(REUSE_TICKS)) + 0.5  # where the ground ends at the right
_LABEL_SIZE: Final = 11


def program_marks(programs: Sequence[ProgramPlace], number: int) -> list[Figure]:
    """Draw programs and guests on one of the map's panels.

    Args:
        programs: What they write within windows.
        number: Of the panel's axes.

    Returns:
        Traces of plotly: paths and diamonds of programs, ticks of guests. None where there are
        none.
    """
    traced = [each for each in programs if each.kind == "program"]
    guests = [each for each in programs if each.kind == "guest"]
    return [
        *_paths(traced, number, faint=True),
        *_diamonds(traced, "program", number, size=8),
        *_ticks(guests, number),
    ]


def draw_programs(
    simulated: Sequence[Place], programs: Sequence[ProgramPlace], rate: float
) -> Picture:
    """Draw real programs and guests, with their names, on one panel of the map.

    Args:
        simulated: The ground, at all places of the axes.
        programs: What they write within windows.
        rate: The panel's dirty rate / link rate.

    Returns:
        The picture.
    """
    ground = [each for each in simulated if each.point.rate == rate]
    data = panel(ground, [], "downtime_ms", 1, scale=True)
    data += _paths(programs, 1)
    for kind in _FILL:
        data += _diamonds([each for each in programs if each.kind == kind], kind, 1, size=10)
    x = axis("working set / cache of 1 MiB (pages written within a time)", **REUSE_AXIS)
    y = axis("lines of a page that are written", **LINE_AXIS)
    look = (
        "From a short window to a long one (the diamond), a program writes more pages, and more"
        " lines of each. Programs were traced (white), guests had their memory compared"
        " (open, names slanted)."
        " What lies beyond the map is drawn at its edge. The ground is the downtime with the cache"
        f" / without where {rate:g} of the link's rate is dirtied; how fast these write is not"
        " known."
    )
    return Picture(
        "programs",
        "Where real programs and guests are on the map",
        look,
        {"data": data, "layout": layout(x, y, annotations=[_name(each) for each in programs])},
        wide=True,
        height=560,
    )


def _paths(programs: Iterable[ProgramPlace], number: int, *, faint: bool = False) -> list[Figure]:
    """Draw what programs write, from short windows to long ones, as far as it lies on the map."""
    x: list[float | None] = []
    y: list[float | None] = []
    shown: list[str] = []
    for each in programs:
        for at in each.sets:
            x.append(_within(at.reuse, REUSE_TICKS))
            y.append(_within(at.lines, LINE_TICKS))
            shown.append(_hover(each, at))
        x.append(None)
        y.append(None)
        shown.append("")
    if not x:
        return []
    return [
        {
            "type": "scatter", "mode": "lines+markers", "x": x, "y": y, **axes_of(number),
            "line": {"width": 1, "color": _FAINT if faint else MARK},
            "marker": {"size": 2 if faint else 4, "color": MARK},
            "customdata": shown, "hovertemplate": "%{customdata}<extra></extra>",
        }
    ]  # fmt: skip


def _diamonds(
    programs: Sequence[ProgramPlace], kind: str, number: int, *, size: int
) -> list[Figure]:
    """Mark the longest windows."""
    ends = [(each, each.sets[-1]) for each in programs]
    if not ends:
        return []
    return [
        {
            "type": "scatter", "mode": "markers", **axes_of(number),
            "x": [_within(at.reuse, REUSE_TICKS) for _, at in ends],
            "y": [_within(at.lines, LINE_TICKS) for _, at in ends],
            "marker": {
                "size": size, "symbol": "diamond", "color": _FILL[kind],
                "line": {"width": 1.5, "color": MARK},
            },
            "customdata": [_hover(each, at) for each, at in ends],
            "hovertemplate": "%{customdata}<extra></extra>",
            "cliponaxis": False,
        }
    ]  # fmt: skip


def _ticks(guests: Sequence[ProgramPlace], number: int) -> list[Figure]:
    """Mark the lines of guests' pages at the right edge."""
    if not guests:
        return []
    return [
        {
            "type": "scatter", "mode": "markers", **axes_of(number),
            "x": [_EDGE for _ in guests],
            "y": [_within(each.sets[0].lines, LINE_TICKS) for each in guests],
            "marker": {
                "size": 9, "symbol": "line-ew", "line": {"width": 2, "color": MARK},
            },
            "customdata": [_hover(each, each.sets[0]) for each in guests],
            "hovertemplate": "%{customdata}<extra></extra>",
            "cliponaxis": False,
        }
    ]  # fmt: skip


def _name(program: ProgramPlace) -> Figure:
    """Name a diamond: a program's name stands at its right, a guest's above it."""
    at, guest = program.sets[-1], program.kind == "guest"
    return {
        "text": text(program.name),
        "x": _within(at.reuse, REUSE_TICKS),
        "y": _within(at.lines, LINE_TICKS),
        "xanchor": "center" if guest else "left",
        "yanchor": "bottom" if guest else "middle",
        "xshift": 0 if guest else 8,
        "yshift": 8 if guest else 0,
        "showarrow": False,
        "bgcolor": _LABEL,
        "borderpad": 1,
        "font": {
            "size": _LABEL_SIZE,
            "color": MARK,
            "style": "italic" if guest else "normal",
        },
    }


def _hover(program: ProgramPlace, at: WrittenSet) -> str:
    window = f"{at.window:,.0f} {'accesses' if program.kind == 'program' else 'ms'}"
    return text(
        f"{program.name} ({program.kind}), within {window}: {at.pages:,.0f} pages written"
        f" ({at.reuse:.2g} caches), {at.lines:.1f} lines of each, median {at.median_lines:g}"
    )


def _within(value: float, ticks: dict[Any, str]) -> float:
    """Place a value on an axis of the map."""
    return log_within(value, min(ticks), max(ticks))
