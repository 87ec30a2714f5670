"""Several runs beside one another: one bar for each case, with the spread of its runs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Final

from pageferry.common.html.formatting import duration, size
from pageferry.common.html.palette import colour, strategy_colours
from pageferry.common.html.picture import Figure, Picture, axis, layout, text
from pageferry.common.report.schema import Report
from pageferry.common.report.slowdown import slowdown
from pageferry.common.report.summary import NOTHING, loss, outcome

_LONGEST_LABEL: Final = 34
_LINE: Final = 22  # characters of a name beside a bar
_ROW: Final = 36  # pixels
_NAMED: Final = 6  # cases whose names have room in a picture
_LOG_FROM: Final = 30.0  # the ratio of greatest to least from which points have a logarithmic axis
_ROOM: Final = 1.35  # times the longest bar: its figure stands behind it

_DOWNTIMES: Final = (
    "Look for the shortest bar, then for the same case in the other picture: its price."
)
_TOTALS: Final = (
    "Look for cases that were soon over here and long in the other picture, or the reverse."
)
_AGAINST: Final = (
    "Look at the lower left: little downtime for few bytes. A case right of another, not below it,"
    " paid for nothing."
)
_WHISKERS: Final = (
    " A bar is the median of a case's runs, a whisker spans the least to the greatest, and a ring"
    " is one run."
)


@dataclass(frozen=True, slots=True)
class ComparedCase:
    """Runs of one configuration that moved their guest: one bar, one colour.

    Attributes:
        name: Of the configuration.
        strategy: Of all its runs.
        reports: Of the runs, at least one; each has a downtime and a total time.
    """

    name: str
    strategy: str
    reports: tuple[Report, ...]


def cases_of(names: Sequence[str], reports: Sequence[Report]) -> list[ComparedCase]:
    """Gather the runs that moved their guest by case and strategy.

    Args:
        names: For each report, the case that it is a run of.
        reports: Those without a downtime or a total time are left out.

    Returns:
        In the order in which each case first occurs.
    """
    found: dict[tuple[str, str], list[Report]] = {}
    for name, report in zip(names, reports, strict=True):
        if report.downtime_ms is not None and report.total_time_ms is not None:
            found.setdefault((name, report.strategy), []).append(report)
    return [ComparedCase(name, strategy, tuple(runs)) for (name, strategy), runs in found.items()]


def draw_comparison(names: Sequence[str], reports: Sequence[Report]) -> list[Picture]:
    """Draw downtime and total time side by side, and downtime against bytes.

    Args:
        names: For each report, the case that it is a run of; reports of one name are one bar.
        reports: Of all runs, also of those that failed.

    Returns:
        Three pictures; where no run moved its guest, they say so.
    """
    cases = cases_of(names, reports)
    titles = "Downtime", "Total time", "Downtime against bytes"
    if not cases:
        missing = "No run moved its guest, so that there is nothing to compare."
        return [
            Picture(key, title, look, missing=missing)
            for key, title, look in zip(
                ("downtimes", "totals", "against"),
                titles,
                (_DOWNTIMES, _TOTALS, _AGAINST),
                strict=True,
            )
        ]
    height = 90 + _ROW * len(cases)
    spread = _WHISKERS if any(len(case.reports) > 1 for case in cases) else ""
    against = _AGAINST + (" A point is one run." if spread else "")
    crowded = len(cases) > _NAMED
    if crowded:
        cases = [
            ComparedCase(f"{number} · {case.name}", case.strategy, case.reports)
            for number, case in enumerate(cases, 1)
        ]
        against += " The numbers are those of the bars."
    downtimes, totals = _bars(cases, _downtime), _bars(cases, _total)
    return [
        Picture("downtimes", titles[0], _DOWNTIMES + spread, downtimes, height=height),
        Picture("totals", titles[1], _TOTALS + spread, totals, height=height),
        Picture("against", titles[2], against, _against(cases, crowded), wide=True, height=380),
    ]


def _downtime(report: Report) -> float:
    """Return a report's downtime, ms."""
    return report.downtime_ms or 0.0


def _total(report: Report) -> float:
    """Return a report's total time, ms."""
    return report.total_time_ms or 0.0


def _hues(cases: Sequence[ComparedCase]) -> list[str]:
    """Return the colour of each case."""
    ways = strategy_colours([case.strategy for case in cases])
    return [ways[case.strategy] for case in cases]


def _bars(cases: Sequence[ComparedCase], figure_of: Callable[[Report], float]) -> Figure:
    """Draw bars from zero: a bar's length is what the eye compares."""
    runs = [[figure_of(report) for report in case.reports] for case in cases]
    medians = [statistics.median(values) for values in runs]
    longest = max(max(values) for values in runs)
    places = list(range(len(cases)))
    names = [text(case.name) for case in cases]
    bars: Figure = {
        "type": "bar",
        "orientation": "h",
        "y": places,
        "x": medians,
        "marker": {"color": _hues(cases)},
        "customdata": [f"{name}<br>{_spread(r)}" for name, r in zip(names, runs, strict=True)],
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    traces = [bars]
    spread = list(zip(runs, medians, strict=True))
    if any(len(values) > 1 for values in runs):
        bars["error_x"] = {
            "type": "data",
            "symmetric": False,
            "array": [max(v) - m if len(v) > 1 else None for v, m in spread],
            "arrayminus": [m - min(v) if len(v) > 1 else None for v, m in spread],
            "color": colour("ink"),
            "thickness": 1.2,
            "width": 5,
        }
        traces.append(_rings(runs))
    traces.append(_figures(places, runs, medians))
    return {
        "data": traces,
        "layout": layout(
            axis("ms", range=[0, longest * _ROOM or 1]),
            axis(
                "",
                autorange="reversed",
                showgrid=False,
                tickmode="array",
                tickvals=places,
                ticktext=[_wrapped(case.name) for case in cases],
                fixedrange=True,
            ),
        ),
    }


def _rings(runs: Sequence[Sequence[float]]) -> Figure:
    """Draw each run of a case that has several."""
    several = [(place, v) for place, values in enumerate(runs) if len(values) > 1 for v in values]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [value for _, value in several],
        "y": [place for place, _ in several],
        "marker": {
            "size": 6,
            "color": "rgba(0,0,0,0)",
            "line": {"color": colour("ink"), "width": 1},
        },
        "hovertemplate": "one run: %{x:,.3f} ms<extra></extra>",
    }


def _figures(
    places: Sequence[int], runs: Sequence[Sequence[float]], medians: Sequence[float]
) -> Figure:
    """Write the medians in words, behind everything that is drawn of a case."""
    return {
        "type": "scatter",
        "mode": "text",
        "x": [max(values) for values in runs],
        "y": list(places),
        "text": [f"\u2002{duration(median)}" for median in medians],
        "textposition": "middle right",
        "textfont": {"size": 12, "color": colour("ink")},
        "cliponaxis": False,
        "hoverinfo": "skip",
    }


def _spread(values: Sequence[float]) -> str:
    """Write a case's median and range in words."""
    if len(values) == 1:
        return duration(values[0])
    ends = f"{duration(min(values))} to {duration(max(values))}"
    return f"median {duration(statistics.median(values))}, {ends}, {len(values)} runs"


def _short(label: str) -> str:
    """Shorten a label for a point."""
    cut = label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1] + "…"
    return text(cut)


def _wrapped(label: str) -> str:
    """Wrap a name to two lines: what tells cases apart is often at its end."""
    lines = wrap(label, _LINE, max_lines=2, placeholder="…")
    return "<br>".join(text(line) for line in lines)


def _scale(values: Sequence[float]) -> Figure:
    """Choose an axis: points, unlike bars, may stand on a logarithmic one.

    That is chosen where the least would not be seen otherwise.
    """
    positive = [value for value in values if value > 0]
    if len(positive) < len(values) or max(positive) < _LOG_FROM * min(positive):
        return {"rangemode": "tozero"}
    return {"type": "log", "dtick": 1}


def _against(cases: Sequence[ComparedCase], crowded: bool) -> Figure:
    """Draw downtime against bytes."""
    everything = [_downtime(report) for case in cases for report in case.reports]
    down_scale = _scale(everything)
    word = ", logarithmic" if "type" in down_scale else ""
    hues = _hues(cases)
    return {
        "data": [
            _points(case, hue, place, crowded)
            for place, (case, hue) in enumerate(zip(cases, hues, strict=True))
        ],
        "layout": layout(
            axis("on the wire (MB)", rangemode="tozero"),
            axis(f"downtime (ms{word})", **down_scale),
        ),
    }


def _points(case: ComparedCase, hue: str, place: int, crowded: bool) -> Figure:
    """Draw a case's runs; name the one whose downtime is the median, or next to it."""
    name = case.name.partition(" · ")[0] if crowded else case.name
    down = [_downtime(report) for report in case.reports]
    named = sorted(range(len(down)), key=down.__getitem__)[len(down) // 2]
    return {
        "type": "scatter",
        "mode": "markers+text",
        "x": [report.bytes_on_wire / 1e6 for report in case.reports],
        "y": down,
        "text": [_short(name) if run == named else "" for run in range(len(down))],
        "textposition": "top center" if place % 2 else "bottom center",
        "textfont": {"size": 11, "color": colour("soft")},
        "marker": {"size": 10, "color": hue},
        "cliponaxis": False,
        "customdata": [text(case.name)] * len(down),
        "hovertemplate": "%{customdata}<br>%{y:,.2f} ms down, %{x:,.1f} MB<extra></extra>",
    }


def table(labels: Sequence[str], reports: Sequence[Report]) -> dict[str, object]:
    """Make the table of the runs, a row each.

    Args:
        labels: One for each report.
        reports: Of the runs.

    Returns:
        A table as `common.html.render` takes them.
    """
    return {
        "title": "The runs",
        "left": 2,
        "columns": [
            *("run", "outcome", "path", "rounds", "downtime", "total time", "on the wire"),
            *("guest's loss", "verified"),
        ],
        "rows": [
            [
                label,
                outcome(report),
                NOTHING if report.path is None else str(report.path),
                str(len(report.rounds)),
                duration(report.downtime_ms),
                duration(report.total_time_ms),
                size(report.bytes_on_wire),
                loss(slowdown(report)),
                {True: "yes", False: "NO", None: NOTHING}[report.verified],
            ]
            for label, report in zip(labels, reports, strict=True)
        ],
    }
