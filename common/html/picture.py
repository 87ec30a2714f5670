"""What every picture has: a title, a sentence that says what to look for, and a plotly figure."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any, Final

from pageferry.common.html.palette import colour
from pageferry.common.html.series import TimeAxis
from pageferry.common.report.schema import Report

Figure = dict[str, Any]  # of plotly: `data` and `layout`


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture, or the sentence that says why there is none.

    Attributes:
        key: Its name in the page, unique in one run.
        title: Above it.
        look: What to look for in it.
        figure: What plotly draws; None: there is nothing to draw.
        missing: Why there is none.
        note: What was left out, where something was.
        wide: Whether it takes the whole width of the page.
        height: Pixels.
    """

    key: str
    title: str
    look: str
    figure: Figure | None = None
    missing: str = ""
    note: str = ""
    wide: bool = False
    height: int = 300


def text(value: str) -> str:
    """Escape a text for plotly, which reads tags (links, too) in what it writes.

    Args:
        value: Plain text.

    Returns:
        The text with `&`, `<` and `>` escaped.
    """
    return html.escape(value, quote=False)


def axis(title: str, **more: Any) -> Figure:
    """Describe an axis in the style of all pictures.

    Args:
        title: What it shows, with its unit.
        **more: Properties of a plotly axis; they override the style.

    Returns:
        The `xaxis` or `yaxis` of a layout.
    """
    return {
        "title": {"text": title, "font": {"size": 12}, "standoff": 8},
        "gridcolor": colour("line"),
        "linecolor": colour("line"),
        "tickcolor": colour("line"),
        "zeroline": False,
        "automargin": True,
    } | more


def layout(x: Figure, y: Figure, **more: Any) -> Figure:
    """Describe a layout in the style of all pictures: no frame, a faint grid.

    A legend, where there is one, stands above.

    Args:
        x: The axis from left to right.
        y: The other one.
        **more: Properties of a plotly layout; they override the style.

    Returns:
        The `layout` of a figure.
    """
    return {
        "xaxis": x,
        "yaxis": y,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"size": 12, "color": colour("ink")},
        "margin": {"l": 8, "r": 12, "t": 28, "b": 8},
        "hoverlabel": {"bgcolor": colour("panel"), "font": {"color": colour("ink")}},
        "showlegend": False,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "modebar": {
            "bgcolor": "rgba(0,0,0,0)",
            "color": colour("line"),
            "activecolor": colour("soft"),
        },
        "bargap": 0.25,
        "dragmode": "zoom",
    } | more


@dataclass(frozen=True, slots=True)
class ChartPhase:
    """A stretch of the migration.

    Attributes:
        name: For people.
        kind: The kind of a round, `stop`, `post-copy`, or `gap`.
        start_ms: When it began, ms since the migration's start.
        end_ms: When it ended.
    """

    name: str
    kind: str
    start_ms: float
    end_ms: float


def downtime_phase(report: Report) -> ChartPhase | None:
    """Find the downtime in a report.

    Args:
        report: Of any outcome.

    Returns:
        From the source's last `paused` event, or else reckoned back from the total time; None:
        there was none.
    """
    if report.downtime_ms is None:
        return None
    paused = [e.t_ms for e in report.events if e.event == "paused" and e.agent == "source"]
    if paused:
        start_ms = paused[-1]
    elif report.total_time_ms is not None:
        after_ms = report.postcopy.duration_ms if report.postcopy else 0.0
        start_ms = report.total_time_ms - after_ms - report.downtime_ms
    else:
        return None
    return ChartPhase("downtime", "stop", start_ms, start_ms + report.downtime_ms)


def phases(report: Report) -> list[ChartPhase]:
    """List rounds, downtime and post-copy, in order.

    Args:
        report: Of any outcome.

    Returns:
        Without the final round, which lies in the downtime.
    """
    out = [
        ChartPhase(
            f"{each.index} {each.kind}", each.kind, each.start_ms, each.start_ms + each.duration_ms
        )
        for each in report.rounds
        if each.kind != "final"
    ]
    still = downtime_phase(report)
    if still is not None:
        out.append(still)
        if report.postcopy is not None:
            end_ms = still.end_ms + report.postcopy.duration_ms
            out.append(ChartPhase("post-copy", "post-copy", still.end_ms, end_ms))
    return out


_SHADES: Final = {
    "full": ("full", 0.10),
    "dirty": ("dirty", 0.22),
    "drain": ("drain", 0.16),
    "stop": ("stop", 0.45),
    "post-copy": ("dest", 0.14),
}
_LEAST_LABELLED: Final = 0.09  # of the picture's width


def shade(found: list[ChartPhase], unit: TimeAxis, span_ms: tuple[float, float]) -> Figure:
    """Draw each phase as a band, with its name where there is room.

    Args:
        found: The phases to draw; a stop is named even where there is little room.
        unit: Of the figure's time axis.
        span_ms: Where the axis begins and ends.

    Returns:
        The `shapes` and `annotations` of a layout.
    """
    shapes, names = [], []
    width = max(span_ms[1] - span_ms[0], 1e-9)
    for phase in found:
        name, opacity = _SHADES.get(phase.kind, ("full", 0.1))
        band = {"type": "rect", "yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
        ends = {"x0": unit(phase.start_ms), "x1": unit(phase.end_ms)}
        # A stop of 2 ms in 10 s would be less than a pixel: its edge is always drawn.
        edge = {"color": colour(name), "width": 1 if phase.kind == "stop" else 0}
        shapes.append(band | ends | {"fillcolor": colour(name), "opacity": opacity, "line": edge})
        shown = min(phase.end_ms, span_ms[1]) - max(phase.start_ms, span_ms[0])
        if shown / width >= _LEAST_LABELLED or phase.kind == "stop":
            middle = (max(phase.start_ms, span_ms[0]) + min(phase.end_ms, span_ms[1])) / 2
            names.append(_label(phase.name, unit(middle), name))
    return {"shapes": shapes, "annotations": names}


def _label(name: str, x: float, hue: str) -> Figure:
    """Write a name above the picture."""
    return {
        "x": x,
        "y": 1,
        "yref": "paper",
        "yanchor": "bottom",
        "showarrow": False,
        "text": text(name),
        "font": {"size": 11, "color": colour(hue)},
    }
