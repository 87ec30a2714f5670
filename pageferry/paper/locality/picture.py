"""The map as a picture: ratios in virtual time as ground, the claim's contour, measured places."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pageferry.common.html.palette import colour
from pageferry.common.html.picture import Figure, Picture, layout, text
from pageferry.paper.locality.data import CLAIM, Place, rates_of

_ROWS: Final = {"downtime_ms": "downtime", "total_ms": "total time"}
_GAP: Final = 0.02  # between panels, as a share of the width
_LEAST: Final = 0.05  # ratios below are drawn as this
_MOST: Final = 2.0


def draw_map(simulated: Sequence[Place], measured: Sequence[Place]) -> Picture:
    """Draw the map: a column of panels for each dirty rate, a row for each figure.

    Args:
        simulated: The ground, at all places of the axes.
        measured: Circles on it, in the colours of the same scale.

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
            data += _panel(ground, spots, figure, number, scale=number == 1)
            axes |= _axes(number, column, row, len(rates))
        notes.append(_caption(f"{rate:g} × link dirtied", column, len(rates)))
    look = (
        "Blue: with the cache it takes less than without. Inside the dark line the paper's claim of"
        f" {CLAIM} holds. Circles were measured, in the colours of the same scale."
    )
    return Picture(
        "map",
        "Where the cache pays: three-path with its cache / the same without",
        look,
        {"data": data, "layout": layout({}, {}, **axes, annotations=notes)},
        wide=True,
        height=640,
    )


def _panel(
    ground: Sequence[Place],
    spots: Sequence[Place],
    figure: str,
    number: int,
    *,
    scale: bool,
) -> list[Figure]:
    lines = sorted({each.point.lines for each in ground})
    reuses = sorted({each.point.reuse for each in ground})
    by = {(each.point.lines, each.point.reuse): each for each in ground}
    z = [[_colour_value(by[count, reuse].ratio(figure)) for reuse in reuses] for count in lines]
    where = {"xaxis": f"x{_suffix(number)}", "yaxis": f"y{_suffix(number)}"}
    at = {"x": [math.log2(reuse) for reuse in reuses], "y": [math.log2(n) for n in lines], "z": z}
    shown = [[_hover(by[count, reuse], "simulated") for reuse in reuses] for count in lines]
    claim = math.log2(CLAIM)
    bar = {"len": 0.9, "thickness": 10, "title": {"text": "ratio", "side": "right"}, **_TICKS}
    return [
        {
            "type": "heatmap", **at, **where, "zmin": math.log2(_LEAST), "zmax": math.log2(_MOST),
            "zmid": 0, "colorscale": _SCALE, "showscale": scale, "colorbar": bar,
            "customdata": shown, "hovertemplate": "%{customdata}<extra></extra>",
        },
        {
            "type": "contour", **at, **where, "showscale": False, "hoverinfo": "skip",
            "contours": {"start": claim, "end": claim, "size": 1, "coloring": "none"},
            "line": {"color": colour("ink"), "width": 2},
        },
        _spots(spots, figure, where),
    ]  # fmt: skip


def _spots(spots: Sequence[Place], figure: str, where: Mapping[str, str]) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [math.log2(each.point.reuse) for each in spots],
        "y": [math.log2(each.point.lines) for each in spots],
        **where,
        "marker": {
            "size": 11,
            "color": [_colour_value(each.ratio(figure)) for each in spots],
            "cmin": math.log2(_LEAST),
            "cmax": math.log2(_MOST),
            "colorscale": _SCALE,
            "line": {"width": 1, "color": colour("ink")},
        },
        "customdata": [_hover(each, "measured") for each in spots],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _hover(place: Place, how: str) -> str:
    at, ratios = place.point, {name: place.ratio(name) for name in (*_ROWS, "bytes")}
    said = ", ".join(f"{name.removesuffix('_ms')} {value:.2f}" for name, value in ratios.items())
    return text(
        f"{at.lines} lines, {at.reuse:g} caches, {at.rate:g} of the link ({how}, path"
        f" {place.path}): {said}"
    )


def _colour_value(ratio: float) -> float:
    return math.log2(min(max(ratio, _LEAST), _MOST))


def _suffix(number: int) -> str:
    return "" if number == 1 else str(number)


def _axes(number: int, column: int, row: int, columns: int) -> dict[str, Figure]:
    """Describe the axes of a panel; only those at the left and below are named."""
    width = (1 - _GAP * (columns - 1)) / columns
    left = column * (width + _GAP)
    bottom = 0.54 if row == 0 else 0.0
    name, last = list(_ROWS.values())[row], row == len(_ROWS) - 1
    plain: dict[str, Any] = {"showgrid": False, "zeroline": False, "fixedrange": True}
    x = {
        **plain,
        "domain": [left, left + width],
        "anchor": f"y{_suffix(number)}",
        "tickvals": [math.log2(each) for each in (0.125, 1, 8, 32)],
        "ticktext": ["⅛", "1", "8", "32"] if last else ["", "", "", ""],
        "title": {"text": "working set / cache" if last else "", "font": {"size": 11}},
    }
    y = {
        **plain,
        "domain": [bottom, bottom + 0.44],
        "anchor": f"x{_suffix(number)}",
        "tickvals": [math.log2(each) for each in (1, 4, 16, 64)],
        "ticktext": ["1", "4", "16", "64"] if column == 0 else ["", "", "", ""],
        "title": {"text": f"{name}: lines of a page" if column == 0 else "", "font": {"size": 11}},
    }
    return {f"xaxis{_suffix(number)}": x, f"yaxis{_suffix(number)}": y}


def _caption(said: str, column: int, columns: int) -> Figure:
    width = (1 - _GAP * (columns - 1)) / columns
    return {
        "text": text(said),
        "x": column * (width + _GAP) + width / 2,
        "y": 1.0,
        "xref": "paper",
        "yref": "paper",
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 12},
    }


_SCALE: Final = [[0.0, "#08519c"], [0.45, "#6baed6"], [0.81, "#f7f7f7"], [1.0, "#cb4b16"]]
_TICKS: Final = {
    "tickvals": [math.log2(each) for each in (0.05, 0.1, 0.2, CLAIM, 1.0, 2.0)],
    "ticktext": ["≤ 0.05", "0.1", "0.2", f"{CLAIM}", "1", "≥ 2"],
}
