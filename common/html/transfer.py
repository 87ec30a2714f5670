"""What went over the wire and where in memory it was, what the cache absorbed, the downtime."""

from __future__ import annotations

from typing import Any, Final

from pageferry.common.html.formatting import duration, size
from pageferry.common.html.palette import colour
from pageferry.common.html.picture import Figure, Picture, axis, layout
from pageferry.common.html.series import TimeAxis
from pageferry.common.report.schema import Report
from pageferry.common.report.sections.memory import ActivityColumn, PagesReport
from pageferry.common.report.sections.rounds import RoundReport
from pageferry.common.units import PAGE_SIZE

_KINDS: Final = ("full", "dirty", "drain", "final")


def draw_rounds(report: Report) -> Picture:
    """Draw rounds as bars: as wide as a round was long, as high as it was fast.

    Args:
        report: Of one run.

    Returns:
        The picture; where no round was sent, it says so.
    """
    look = (
        "Look for rounds that get narrower: the guest dirties less than the link carries. A bar's"
        " area is what the round sent; low bars are rounds too short to fill the link."
    )
    title = "Rounds"
    if not report.rounds:
        missing = "No round was sent: memory went over after the guest had moved, or not at all."
        return Picture("rounds", title, look, missing=missing, wide=True)
    end_ms = max(each.start_ms + each.duration_ms for each in report.rounds)
    unit = TimeAxis.of(end_ms)
    traces = [
        _bars(kind, of_kind, unit)
        for kind in _KINDS
        if (of_kind := [each for each in report.rounds if each.kind == kind])
    ]
    limit = report.config.get("max_bandwidth")
    figure = {
        "data": traces,
        "layout": layout(
            axis(f"time since the migration's start ({unit.unit})"),
            axis("rate (MB/s)", rangemode="tozero"),
            showlegend=True,
            barmode="overlay",
            **_limit_line(limit),
        ),
    }
    return Picture("rounds", title, look, figure, wide=True, height=300)


def _bars(kind: str, found: list[RoundReport], unit: TimeAxis) -> Figure:
    """Draw the rounds of one kind."""
    return {
        "type": "bar",
        "name": kind,
        "x": [unit(each.start_ms + each.duration_ms / 2) for each in found],
        "width": [unit(each.duration_ms) for each in found],
        "y": [each.bytes / each.duration_ms / 1e3 if each.duration_ms > 0 else 0 for each in found],
        "marker": {"color": colour(kind), "line": {"color": colour("page"), "width": 0.5}},
        "customdata": [_told(each) for each in found],
        "hovertemplate": "%{customdata}<br>%{y:,.1f} MB/s<extra></extra>",
    }


def _told(each: RoundReport) -> str:
    """Write a round's figures for the mouse to show."""
    parts = [f"round {each.index}, {each.kind}: {size(each.bytes)} in {duration(each.duration_ms)}"]
    lines = f", {each.line_pages:,} of them by line" if each.line_pages else ""
    parts.append(f"{each.pages:,} pages{lines}, {each.zero_pages:,} zero pages")
    parts.append(f"{each.dirty_pages_after:,} pages out of date after it")
    return "<br>".join(parts)


def _limit_line(limit: Any) -> Figure:
    """Draw `--max-bandwidth`, where there was one."""
    if not isinstance(limit, (int, float)) or not 0 < limit < 1e15:
        return {}
    ends = {"xref": "paper", "x0": 0, "x1": 1, "y0": limit / 1e6, "y1": limit / 1e6}
    line = {"color": colour("soft"), "width": 1, "dash": "dash"}
    note = {
        "xref": "paper",
        "x": 1,
        "xanchor": "right",
        "y": limit / 1e6,
        "yanchor": "bottom",
        "text": "limit",
        "showarrow": False,
        "font": {"size": 11, "color": colour("soft")},
    }
    return {"shapes": [{"type": "line", "line": line} | ends], "annotations": [note]}


# -- the downtime in parts -------------------------------------------------------------------------


def draw_downtime(report: Report) -> Picture:
    """Draw the downtime as steps, from the first vCPU's stop to the last one's start.

    Args:
        report: Of one run.

    Returns:
        The picture; where there was no downtime, it says so.
    """
    title = "What the downtime consists of"
    look = (
        "Look for the longest step: “last pages” grows with what was left to send, “snapshot and"
        " commit” and “resume” are the price of any hand-over."
    )
    parts = report.downtime_parts
    if not parts:
        missing = "There is no downtime to take apart: the guest did not come to run elsewhere."
        return Picture("downtime", title, look, missing=missing)
    figure = {
        "data": [
            {
                "type": "bar",
                "orientation": "h",
                "y": [part.name for part in parts],
                "base": [part.start_ms for part in parts],
                "x": [part.ms for part in parts],
                "text": [duration(part.ms) for part in parts],
                "textposition": "auto",
                "insidetextanchor": "middle",
                "insidetextfont": {"color": colour("page")},
                "cliponaxis": False,
                "marker": {"color": colour("stop")},
                "hovertemplate": "%{y}: %{text}<extra></extra>",
            }
        ],
        "layout": layout(
            axis(
                "time since the first vCPU stopped (ms)",
                range=_room(parts[-1].start_ms + parts[-1].ms),
            ),
            axis("", autorange="reversed", showgrid=False),
        ),
    }
    return Picture("downtime", title, look, figure, height=280)


def _room(end: float) -> list[float]:
    """Return the range of an axis that leaves room for text right of the last bar."""
    return [0, end * 1.3 or 1]


# -- where in memory -------------------------------------------------------------------------------


def draw_activity(report: Report) -> Picture:
    """Draw memory over time: pages dirtied, sent, waited for.

    Args:
        report: Of one run.

    Returns:
        The picture; where no round was finished, it says so.
    """
    title = "Memory over time"
    look = (
        "Look for the same stripes in “out of date” and in “sent”: those addresses are written and"
        " sent again and again. A column is a round, or a moment after the switch."
    )
    pages = report.pages
    if pages is None or not pages.activity or pages.pages_per_bin <= 0:
        missing = (
            "No round was finished, so that nothing is known of where in memory it was at work."
        )
        return Picture("heat", title, look, missing=missing, wide=True)
    names = {"sent": "sent, or placed after the switch"}
    if any(column.dirtied is not None for column in pages.activity):
        names = {"dirtied": "out of date at its end"} | names
    if any(any(column.faulted) for column in pages.activity):
        names["faulted"] = "waited for by the guest"
    end_ms = max(column.t_ms + column.duration_ms for column in pages.activity)
    unit = TimeAxis.of(end_ms)
    figure = _heat_figure(pages, names, unit)
    note = (
        f"{len(pages.activity):,} columns of {len(pages.activity[0].sent):,} rows; a row is"
        f" {size(pages.pages_per_bin * PAGE_SIZE)} of memory. Columns narrower than a pixel come up"
        " by dragging over them."
    )
    return Picture("heat", title, look, figure, note=note, wide=True, height=200 * len(names) + 60)


def _heat_figure(pages: PagesReport, names: dict[str, str], unit: TimeAxis) -> Figure:
    """Draw the heat maps below one another."""
    edges, places = _edges(pages.activity, unit)
    bins = max(len(column.sent) for column in pages.activity)
    rows = [i * pages.pages_per_bin * PAGE_SIZE / 2**20 for i in range(bins + 1)]
    data: list[Figure] = []
    out = layout(
        axis(f"time since the migration's start ({unit.unit})", anchor="y" + _nth(len(names))),
        axis("MiB"),
    )
    notes = []
    height = 1 / len(names)
    for number, (field, name) in enumerate(names.items(), 1):
        top = 1 - (number - 1) * height
        out["yaxis" + _nth(number)] = axis(
            "address (MiB)", domain=[top - height * 0.82, top], showgrid=False, fixedrange=True
        )
        columns = [getattr(column, field) or [] for column in pages.activity]
        data.append(_heat(columns, edges, places, rows, pages.pages_per_bin, number, unit))
        notes.append(
            {
                **{"xref": "paper", "yref": "paper", "x": 0, "y": top, "showarrow": False},
                **{"yanchor": "bottom", "text": name, "font": {"size": 12}},
            }
        )
    out["annotations"] = notes
    out["xaxis"]["showgrid"] = False
    return {"data": data, "layout": out}


def _nth(number: int) -> str:
    """Return how plotly numbers axes."""
    return "" if number == 1 else str(number)


def _edges(columns: list[ActivityColumn], unit: TimeAxis) -> tuple[list[float], list[int]]:
    """Find where cells begin and end, and each column's cell: between columns lies a gap."""
    edges, places = [columns[0].t_ms], []
    for column in columns:
        begin = max(column.t_ms, edges[-1])
        if begin > edges[-1]:
            edges.append(begin)
        places.append(len(edges) - 1)
        edges.append(max(column.t_ms + column.duration_ms, begin + 1e-6))
    return [unit(edge) for edge in edges], places


def _heat(
    columns: list[list[int]],
    edges: list[float],
    places: list[int],
    rows: list[float],
    per_bin: int,
    number: int,
    unit: TimeAxis,
) -> Figure:
    """Draw one heat map, in percent of each row's pages."""
    cells: list[list[float | None]] = [[None] * (len(edges) - 1) for _ in range(len(rows) - 1)]
    for place, column in zip(places, columns, strict=True):
        for row, count in zip(cells, column, strict=False):
            row[place] = round(100 * count / per_bin, 1)
    return {
        "type": "heatmap",
        "x": edges,
        "y": rows,
        "z": cells,
        "yaxis": "y" + _nth(number),
        "zmin": 0,
        "zmax": 100,
        "zsmooth": False,
        "hoverongaps": False,
        "colorscale": [
            [0, colour("heat-low")],
            [0.35, colour("heat-mid")],
            [1, colour("heat-high")],
        ],
        "showscale": number == 1,
        "colorbar": {
            "title": {"text": "% of a row", "side": "right"},
            "thickness": 10,
            "outlinewidth": 0,
            "len": 0.5,
            "y": 1,
            "yanchor": "top",
        },
        "hovertemplate": (
            f"%{{y:,.0f}} MiB, %{{x:,.3f}} {unit.unit}<br>%{{z}} % of its pages<extra></extra>"
        ),
    }


# -- the cache -------------------------------------------------------------------------------------


def draw_writes_by_address(report: Report) -> Picture:
    """Draw writes, write-backs and sends by address.

    Args:
        report: Of one run.

    Returns:
        The picture; where writes were not counted, it says so.
    """
    title = "Writes that the cache absorbed"
    look = (
        "Look for addresses where the guest writes much and little is written back: there the cache"
        " saves sending. Where both lines meet it does nothing."
    )
    pages = report.pages
    if pages is None or not pages.writes or pages.pages_per_bin <= 0:
        missing = (
            "Writes were not counted in this run: --count-writes does (the guest is slower then)."
        )
        return Picture("cache", title, look, missing=missing, wide=True)
    per_bin = pages.pages_per_bin * PAGE_SIZE / 2**20
    lines = {
        "lines written by the guest": (pages.writes, "source", "solid"),
        "lines written back to memory": (pages.write_backs or [], "dest", "solid"),
        "pages sent": (pages.sends, "soft", "dot"),
    }
    figure = {
        "data": [
            {
                "type": "scatter",
                "mode": "lines",
                "name": name,
                "x": [i * per_bin for i in range(len(values))],
                "y": values,
                "line": {"color": colour(hue), "width": 1.6, "shape": "hv", "dash": dash},
                "hovertemplate": f"%{{x:,.0f}} MiB: %{{y:,}}<extra>{name}</extra>",
            }
            for name, (values, hue, dash) in lines.items()
        ],
        "layout": layout(
            axis("address (MiB)"),
            axis(f"count in each {size(pages.pages_per_bin * PAGE_SIZE)}", rangemode="tozero"),
            showlegend=True,
        ),
    }
    return Picture("cache", title, look, figure, wide=True, height=300)
