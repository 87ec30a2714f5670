"""Several runs beside one another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from textwrap import wrap
from typing import Final

from common.html.palette import colour
from common.html.picture import Figure, Picture, axis, layout, text
from common.html.words import NOTHING, duration, share, size
from common.report import Report
from common.slowdown import slowdown

_LONGEST_LABEL: Final = 34
_LINE: Final = 22  # characters of a name beside a bar
_ROW: Final = 36  # pixels
_NAMED: Final = 6  # runs whose names have room in a picture
_LOG_FROM: Final = 30.0  # the ratio of greatest to least from which an axis is logarithmic


def pictures(labels: Sequence[str], reports: Sequence[Report]) -> list[Picture]:
    """Downtime and total side by side, and downtime against bytes; of the runs that moved."""
    moved = [
        (label, report)
        for label, report in zip(labels, reports, strict=True)
        if report.downtime_ms is not None and report.total_time_ms is not None
    ]
    down = "Look for the shortest bar, then for the same run in the other picture: its price."
    total = "Look for runs that were soon over here and long in the other picture, or the reverse."
    against = (
        "Look at the lower left: little downtime for few bytes. A run right of another, not below"
        " it, paid for nothing."
    )
    titles = "Downtime", "Total time", "Downtime against bytes"
    if not moved:
        missing = "No run moved its guest, so that there is nothing to compare."
        return [
            Picture(key, title, look, missing=missing)
            for key, title, look in zip(
                ("downtimes", "totals", "against"), titles, (down, total, against), strict=True
            )
        ]
    height = 90 + _ROW * len(moved)
    crowded = len(moved) > _NAMED
    if crowded:
        moved = [(f"{number} · {label}", report) for number, (label, report) in enumerate(moved, 1)]
        against += " The numbers are those of the bars."
    return [
        Picture("downtimes", titles[0], down, _bars(moved, _downtime, "stop"), height=height),
        Picture("totals", titles[1], total, _bars(moved, _total, "source"), height=height),
        Picture("against", titles[2], against, _against(moved, crowded), wide=True, height=380),
    ]


def _downtime(report: Report) -> float:
    return report.downtime_ms or 0.0


def _total(report: Report) -> float:
    return report.total_time_ms or 0.0


def _short(label: str) -> str:
    cut = label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1] + "…"
    return text(cut)


def _wrapped(label: str) -> str:
    """On two lines: what tells runs apart is often at the end of their names."""
    lines = wrap(label, _LINE, max_lines=2, placeholder="…")
    return "<br>".join(text(line) for line in lines)


def _scale(values: Sequence[float]) -> Figure:
    """Logarithmic where the least would not be seen; a bar then has no foot, which is said."""
    positive = [value for value in values if value > 0]
    if len(positive) < len(values) or max(positive) < _LOG_FROM * min(positive):
        return {"rangemode": "tozero"}
    return {"type": "log", "dtick": 1}


def _bars(
    moved: Sequence[tuple[str, Report]], figure_of: Callable[[Report], float], hue: str
) -> Figure:
    values = [figure_of(report) for _, report in moved]
    scale = _scale(values)
    unit = "ms, logarithmic" if "type" in scale else "ms"
    places = list(range(len(moved)))
    return {
        "data": [
            {
                "type": "bar",
                "orientation": "h",
                "y": places,
                "x": values,
                "text": [duration(value) for value in values],
                "textposition": "auto",
                "insidetextfont": {"color": colour("page")},
                "cliponaxis": False,
                "marker": {"color": colour(hue)},
                "customdata": [text(label) for label, _ in moved],
                "hovertemplate": "%{customdata}<br>%{text}<extra></extra>",
            }
        ],
        "layout": layout(
            axis(unit, **scale),
            axis(
                "",
                autorange="reversed",
                showgrid=False,
                tickmode="array",
                tickvals=places,
                ticktext=[_wrapped(label) for label, _ in moved],
                fixedrange=True,
            ),
        ),
    }


def _against(moved: Sequence[tuple[str, Report]], crowded: bool) -> Figure:
    names = [_short(label.partition(" · ")[0] if crowded else label) for label, _ in moved]
    sent = [report.bytes_on_wire / 1e6 for _, report in moved]
    down = [_downtime(report) for _, report in moved]
    down_scale = _scale(down)
    word = ", logarithmic" if "type" in down_scale else ""
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "markers+text",
                "x": sent,
                "y": down,
                "text": names,
                "textposition": [
                    "top center" if i % 2 else "bottom center" for i in range(len(moved))
                ],
                "textfont": {"size": 11, "color": colour("soft")},
                "marker": {"size": 10, "color": colour("stop")},
                "cliponaxis": False,
                "customdata": [text(label) for label, _ in moved],
                "hovertemplate": "%{customdata}<br>%{y:,.2f} ms down, %{x:,.1f} MB<extra></extra>",
            }
        ],
        "layout": layout(
            axis("on the wire (MB)", **_padded(sent)), axis(f"downtime (ms{word})", **down_scale)
        ),
    }


def _padded(values: Sequence[float]) -> Figure:
    """Names at the edges need room."""
    low, high = min(values), max(values)
    margin = (high - low) * 0.15 or high * 0.1 or 1
    return {"range": [low - margin, high + margin]}


def table(labels: Sequence[str], reports: Sequence[Report]) -> dict[str, object]:
    """A row for each run."""
    return {
        "title": "The runs",
        "left": 2,
        "columns": [
            *("run", "outcome", "path", "rounds", "downtime", "total time", "on the wire"),
            *("slow-down", "verified"),
        ],
        "rows": [
            [
                label,
                report.outcome,
                NOTHING if report.path is None else str(report.path),
                str(len(report.rounds)),
                duration(report.downtime_ms),
                duration(report.total_time_ms),
                size(report.bytes_on_wire),
                share(slowdown(report)),
                {True: "yes", False: "NO", None: NOTHING}[report.verified],
            ]
            for label, report in zip(labels, reports, strict=True)
        ],
    }
