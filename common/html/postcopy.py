"""Post-copy: how long faults took, and how the missing pages became fewer."""

from __future__ import annotations

import math

from pageferry.common.html.formatting import duration
from pageferry.common.html.palette import colour
from pageferry.common.html.picture import ChartPhase, Figure, Picture, axis, layout, phases, shade
from pageferry.common.html.series import Point, TimeAxis, thin_points
from pageferry.common.report.latency_histogram import known_counts
from pageferry.common.report.schema import Report
from pageferry.common.report.sections.postcopy import FaultCount, FaultLatency, PostcopyReport


def draw_postcopy(report: Report) -> list[Picture]:
    """Draw fault latencies and missing pages, and each fault over time where all were traced.

    Args:
        report: Of one run.

    Returns:
        Two or three pictures; a single one that says so where there was no post-copy.
    """
    part = report.postcopy
    if part is None:
        missing = "The guest never ran with pages missing: there was no post-copy in this run."
        return [Picture("latency", "Post-copy", "", missing=missing, wide=True)]
    out = [_latency(part), _missing(report, part)]
    if part.trace:
        out.append(_trace(part))
    return out


def _latency(part: PostcopyReport) -> Picture:
    """Draw how many faults took how long."""
    title = "How long the guest waited for a page"
    look = (
        "Look for a second hill at the right: faults that had to wait behind other bytes. The"
        " dashed lines say how long half, and all but one in a hundred, took at the most."
    )
    if not part.faults:
        missing = "No vCPU ever had to wait for a page: each had come before it was touched."
        return Picture("latency", title, look, missing=missing)
    bars = known_counts(part)
    if not bars:
        missing = "The latencies of this report can't be read: its histogram is damaged or absent."
        return Picture("latency", title, look, missing=missing)
    return Picture("latency", title, look, _latency_figure(bars, part.fault_latency_us))


def _latency_figure(bars: list[FaultCount], known: FaultLatency | None) -> Figure:
    """Draw the bars of the latencies, and lines at their percentiles."""
    said = {} if known is None else {"p50": known.p50, "p99": known.p99, "max": known.max}
    marks = [(name, us) for name, us in said.items() if us is not None and us > 0]
    return {
        "data": [
            {
                "type": "bar",
                "x": [math.sqrt(each.from_us * each.to_us) for each in bars],
                "width": [each.to_us - each.from_us for each in bars],
                "y": [each.faults for each in bars],
                "customdata": [f"{each.from_us:,.3g} to {each.to_us:,.3g} µs" for each in bars],
                "marker": {"color": colour("dest")},
                "hovertemplate": "%{customdata}: %{y:,} faults<extra></extra>",
            }
        ],
        "layout": layout(
            axis("from the fault until its page was there (µs)", type="log", dtick=1),
            axis("faults", rangemode="tozero"),
            shapes=[_upright(us) for _, us in marks],
            annotations=[_named(name, us, place) for place, (name, us) in enumerate(marks)],
        ),
    }


def _upright(us: float) -> Figure:
    """Draw an upright line."""
    line = {"color": colour("ink"), "width": 1, "dash": "dash"}
    return {"type": "line", "x0": us, "x1": us, "yref": "paper", "y0": 0, "y1": 1, "line": line}


def _named(name: str, us: float, place: int) -> Figure:
    """Name an upright line."""
    return {
        "x": math.log10(us),
        "yref": "paper",
        "y": 1 - 0.1 * place,
        "xanchor": "left",
        "xshift": 4,
        "text": f"{name} {duration(us / 1e3)}",
        "showarrow": False,
        "font": {"size": 11, "color": colour("ink")},
    }


def _from_switch(report: Report) -> tuple[list[ChartPhase], float]:
    """Return the phases from the stop on, and when the last of them ends."""
    found = [phase for phase in phases(report) if phase.kind in ("stop", "post-copy")]
    return found, found[-1].end_ms if found else 0.0


def _missing(report: Report, part: PostcopyReport) -> Picture:
    """Draw how many pages were missing over time."""
    title = "Pages still missing at the destination"
    look = (
        "Look for a straight line down: then the link is full all the time. Where it becomes flat,"
        " little is pushed and the guest fetches what it needs page by page."
    )
    kept = thin_points([(each.t_ms, each.pages) for each in part.missing])
    if not kept.points:
        missing = "How many pages were missing was not sampled: post-copy was over too soon."
        return Picture("missing", title, look, missing=missing)
    found, end_ms = _from_switch(report)
    begin, end = kept.points[0][0], max(kept.points[-1][0], end_ms)
    unit = TimeAxis.of(end)
    figure = {
        "data": [_line(kept.points, unit)],
        "layout": layout(
            axis(f"time since the migration's start ({unit.unit})"),
            axis("pages", rangemode="tozero"),
            **shade([phase for phase in found if phase.kind == "stop"], unit, (begin, end)),
        ),
    }
    return Picture("missing", title, look, figure, note=kept.note)


def _line(points: list[Point], unit: TimeAxis) -> Figure:
    """Draw the line of missing pages."""
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [unit(x) for x, _ in points],
        "y": [y for _, y in points],
        "line": {"color": colour("dest"), "width": 1.8},
        "fill": "tozeroy",
        "fillcolor": colour("heat-low"),
        "hovertemplate": f"%{{y:,}} pages<br>%{{x:,.4~f}} {unit.unit}<extra></extra>",
    }


def _trace(part: PostcopyReport) -> Picture:
    """Draw every fault that was traced."""
    title = "Every fault"
    look = (
        "Look for when the slow faults were: at once after the switch, when everybody asks, or"
        " later, behind pages that were being pushed."
    )
    faults = part.trace or []
    kept = thin_points([(each.t_ms, each.us) for each in faults if each.us > 0])
    unit = TimeAxis.of(max((x for x, _ in kept.points), default=0.0))
    figure = {
        "data": [
            {
                "type": "scatter",
                "mode": "markers",
                "x": [unit(x) for x, _ in kept.points],
                "y": [y for _, y in kept.points],
                "marker": {"color": colour("dest"), "size": 4, "opacity": 0.6},
                "hovertemplate": f"%{{y:,.1f}} µs at %{{x:,.4~f}} {unit.unit}<extra></extra>",
            }
        ],
        "layout": layout(
            axis(f"time since the migration's start ({unit.unit})"),
            axis("waited (µs)", type="log", dtick=1),
        ),
    }
    note = kept.note
    if len(faults) < part.faults:
        note = f"{len(faults):,} of {part.faults:,} faults were traced. {note}".strip()
    return Picture("faults", title, look, figure, note=note, wide=True)
