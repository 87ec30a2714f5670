"""A panel of the map's pictures: ratios as ground, the claim's contour, measured places on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pageferry.common.html.picture import Figure, text
from pageferry.paper.locality.data import CLAIM, FIGURES, Place

LEAST: Final = 0.05  # ratios below are drawn as this
MOST: Final = 2.0
REUSE_TICKS: Final = {0.125: "⅛", 0.5: "½", 2.0: "2", 8.0: "8", 32.0: "32"}
LINE_TICKS: Final = {1: "1", 4: "4", 16: "16", 64: "64"}

# The ground has the same colours in light and in dark, so what is drawn on it has, too.
MARK: Final = "#1b2430"

_SCALE: Final = [[0.0, "#08519c"], [0.45, "#6baed6"], [0.81, "#f7f7f7"], [1.0, "#cb4b16"]]
_TICKS: Final = {
    "tickvals": [math.log2(each) for each in (0.05, 0.1, 0.2, CLAIM, 1.0, 2.0)],
    "ticktext": ["≤ 0.05", "0.1", "0.2", f"{CLAIM}", "1", "≥ 2"],
}


def _axis(ticks: Mapping[float, str] | Mapping[int, str]) -> dict[str, Any]:
    return {
        "showgrid": False,
        "fixedrange": True,
        "range": [math.log2(min(ticks)) - 0.5, math.log2(max(ticks)) + 0.5],
        "tickvals": [math.log2(value) for value in ticks],
        "ticktext": list(ticks.values()),
    }


REUSE_AXIS: Final = _axis(REUSE_TICKS)
LINE_AXIS: Final = _axis(LINE_TICKS)


def panel(
    ground: Sequence[Place],
    spots: Sequence[Place],
    figure: str,
    number: int,
    *,
    scale: bool,
) -> list[Figure]:
    """Draw the ground of a panel, the claim's contour, and measured places.

    Args:
        ground: Simulated places of one dirty rate, all of the axes.
        spots: Measured places of it.
        figure: Whose ratio the colours are.
        number: Of the panel's axes, from 1 on.
        scale: Whether the colours' scale is drawn beside it.

    Returns:
        Traces of plotly. Both axes are logarithms to base 2.
    """
    lines = sorted({each.point.lines for each in ground})
    reuses = sorted({each.point.reuse for each in ground})
    by = {(each.point.lines, each.point.reuse): each for each in ground}
    z = [[_colour_value(by[count, reuse].ratio(figure)) for reuse in reuses] for count in lines]
    where = axes_of(number)
    at = {"x": [math.log2(reuse) for reuse in reuses], "y": [math.log2(n) for n in lines], "z": z}
    shown = [[hover(by[count, reuse], "simulated") for reuse in reuses] for count in lines]
    claim = math.log2(CLAIM)
    bar = {"len": 0.9, "thickness": 10, "title": {"text": "ratio", "side": "right"}, **_TICKS}
    return [
        {
            "type": "heatmap", **at, **where, "zmin": math.log2(LEAST), "zmax": math.log2(MOST),
            "zmid": 0, "colorscale": _SCALE, "showscale": scale, "colorbar": bar,
            "customdata": shown, "hovertemplate": "%{customdata}<extra></extra>",
        },
        {
            "type": "contour", **at, **where, "showscale": False, "hoverinfo": "skip",
            "contours": {"start": claim, "end": claim, "size": 1, "coloring": "none"},
            "line": {"color": MARK, "width": 2},
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
            "cmin": math.log2(LEAST),
            "cmax": math.log2(MOST),
            "colorscale": _SCALE,
            "line": {"width": 1, "color": MARK},
        },
        "customdata": [hover(each, "measured") for each in spots],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def hover(place: Place, how: str) -> str:
    """Describe a place in a line, with its ratios.

    Args:
        place: The place.
        how: Whether it was measured or simulated.

    Returns:
        Text of plotly.
    """
    at, ratios = place.point, {name: place.ratio(name) for name in FIGURES}
    said = ", ".join(f"{name.removesuffix('_ms')} {value:.2f}" for name, value in ratios.items())
    return text(
        f"{at.lines} lines, {at.reuse:g} caches, {at.rate:g} of the link ({how}, path"
        f" {place.path}): {said}"
    )


def _colour_value(ratio: float) -> float:
    return log_within(ratio, LEAST, MOST)


def log_within(value: float, least: float, most: float) -> float:
    """Return the logarithm to base 2; what lies beyond the ends is at them."""
    return math.log2(min(max(value, least), most))


def axes_of(number: int) -> dict[str, str]:
    """Name the axes of a panel, as a trace has them."""
    return {"xaxis": f"x{suffix(number)}", "yaxis": f"y{suffix(number)}"}


def suffix(number: int) -> str:
    """Write the number of an axis as plotly does: the first has none."""
    return "" if number == 1 else str(number)
