"""The guest's speed: through the whole migration, and close to the stop."""

from __future__ import annotations

from typing import Final

from pageferry.common.html.formatting import duration
from pageferry.common.html.palette import colour
from pageferry.common.html.picture import (
    ChartPhase,
    Figure,
    Picture,
    axis,
    downtime_phase,
    layout,
    phases,
    shade,
)
from pageferry.common.html.series import Point, TimeAxis, thin_points
from pageferry.common.report.schema import Report
from pageferry.common.report.sections.guest import TimelineSample
from pageferry.common.report.summary import is_simulated

_WHERE: Final = {"source": "at the source", "dest": "at the destination"}


def draw_speed(report: Report) -> list[Picture]:
    """Draw the guest's speed over the whole migration, and close to the stop.

    Args:
        report: Of one run.

    Returns:
        Two pictures; one that has nothing to show says why.
    """
    return [_speed(report), _close(report)]


def _speed(report: Report) -> Picture:
    """Draw the guest's speed over the whole migration."""
    look = (
        "Look for how far the line falls while rounds are sent, and how soon after the downtime"
        " (the magenta band) it is back where it was."
    )
    title = "The guest's speed"
    samples = report.guest.timeline
    if not samples:
        missing = "The guest's speed was not sampled: it never ran, or not for long enough."
        return Picture("speed", title, look, missing=missing, wide=True)
    begin, end = min(s.t_ms for s in samples), max(s.t_ms for s in samples)
    unit = TimeAxis.of(end - begin)
    traces, notes = [], []
    for where, name in _WHERE.items():
        points: list[Point] = [(s.t_ms, s.steps_per_s) for s in samples if s.where == where]
        if points:
            kept = thin_points(from_its_start(report, where, points))
            notes.append(kept.note)
            traces.append(_line(kept.points, unit, where, name))
    figure = {
        "data": traces,
        "layout": layout(
            axis(f"time since the migration's start ({unit.unit})"),
            axis("steps per second", rangemode="tozero"),
            showlegend=True,
            legend={"orientation": "h", "x": 1, "xanchor": "right", "y": -0.18, "yanchor": "top"},
            **shade(phases(report), unit, (begin, end)),
        ),
    }
    return Picture("speed", title, look, figure, note=_first(notes), wide=True, height=340)


def _first(notes: list[str]) -> str:
    """Return the first note that is not empty."""
    return next((note for note in notes if note), "")


def from_its_start(report: Report, where: str, points: list[Point]) -> list[Point]:
    """Let the speed at the destination begin with the guest's run there, not at the first sample.

    A sample tells of the time before it.

    Args:
        report: Of the run.
        where: `source` or `dest`; only the latter is changed.
        points: (ms, steps a second) of that host's samples, in order, at least one.

    Returns:
        The points, with one at the resume in front of them where that is earlier.
    """
    still = downtime_phase(report)
    if where == "dest" and still is not None and points[0][0] > still.end_ms:
        return [(still.end_ms, points[0][1]), *points]
    return points


def _line(points: list[Point], unit: TimeAxis, where: str, name: str) -> Figure:
    """Draw a line of the guest's speed at one host."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [unit(x) for x, _ in points],
        "y": [y for _, y in points],
        "line": {"color": colour(where), "width": 1.8, "shape": "vh"},
        "hovertemplate": f"%{{y:,.0f}} steps/s<br>%{{x:,.4~f}} {unit.unit}<extra>{name}</extra>",
    }


def _close(report: Report) -> Picture:
    """Draw the guest's speed close to the stop."""
    title = "The stop, close up"
    still = downtime_phase(report)
    if still is None:
        missing = "The guest was never stopped for a hand-over, so there is no gap to look at."
        return Picture("stop", title, "", missing=missing)
    guest = report.guest
    gap_start = guest.longest_gap_start_ms
    gap = (
        None
        if gap_start is None or guest.longest_gap_ms is None or is_simulated(report)
        else ChartPhase("longest gap", "gap", gap_start, gap_start + guest.longest_gap_ms)
    )
    near = gap is not None and gap.end_ms >= still.start_ms and gap.start_ms <= still.end_ms
    begin, end = still.start_ms, still.end_ms
    if near and gap is not None:
        begin, end = min(begin, gap.start_ms), max(end, gap.end_ms)
    margin = max((end - begin) * 0.6, 0.5)
    return Picture(
        "stop",
        title,
        _look(gap, near),
        _close_figure(report, still, gap if near else None, (begin - margin, end + margin)),
        note="Right before and after the stop the line is the speed of the nearest sample.",
    )


def _look(gap: ChartPhase | None, near: bool) -> str:
    """Say what to look for in the picture of the stop."""
    if near:
        return (
            "Look for whether the longest gap that the guest itself saw (the bar) is about as long"
            " as the downtime (the band): the two are measured independently of one another. A gap"
            " is the time between two beats of a vCPU, one a quantum: faults right after the"
            " resume may be in it, several of them."
        )
    look = "Look for whether the guest runs as fast right of the band, the downtime, as left of it."
    if gap is None:
        return look
    return (
        f"{look} Its longest gap, {duration(gap.end_ms - gap.start_ms)}, was elsewhere:"
        f" {duration(gap.start_ms)} after the migration's start. It is the time between two beats"
        " of a vCPU, one a quantum: several faults within a quantum are one gap."
    )


def _close_figure(
    report: Report, still: ChartPhase, gap: ChartPhase | None, span: tuple[float, float]
) -> Figure:
    """Draw the stop. Time counts from the pause, in ms, however long the run took."""

    def shifted(phase: ChartPhase) -> ChartPhase:
        return ChartPhase(
            phase.name, phase.kind, phase.start_ms - still.start_ms, phase.end_ms - still.start_ms
        )

    window = span[0] - still.start_ms, span[1] - still.start_ms
    traces = [
        _line(points, TimeAxis("ms", 1.0), where, name)
        for where, name in _WHERE.items()
        if (points := _inside(report.guest.timeline, where, still, span))
    ]
    bands = shade([shifted(still)], TimeAxis("ms", 1.0), window)
    top = max((y for trace in traces for y in trace["y"]), default=1.0) or 1.0
    if gap is not None:
        moved = shifted(gap)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": [moved.start_ms, moved.end_ms],
                "y": [top * 0.5] * 2,
                "line": {"color": colour("ink"), "width": 5},
                "hovertemplate": "%{x:,.3f} ms<extra>longest gap</extra>",
            }
        )
        bands["annotations"].append(
            {
                **{"x": (moved.start_ms + moved.end_ms) / 2, "y": top * 0.5, "yshift": 12},
                "text": f"longest gap {duration(moved.end_ms - moved.start_ms)}",
                "showarrow": False,
                "font": {"color": colour("ink")},
            }
        )
    return {
        "data": traces,
        "layout": layout(
            axis("time since the pause (ms)", range=list(window)),
            axis("steps per second", rangemode="tozero"),
            **bands,
        ),
    }


def _inside(
    samples: list[TimelineSample], where: str, still: ChartPhase, span: tuple[float, float]
) -> list[Point]:
    """Return a host's speed as far as the window shows it: until the pause, or from the resume."""
    points = [(s.t_ms - still.start_ms, s.steps_per_s) for s in samples if s.where == where]
    if not points:
        return []
    low, high = span[0] - still.start_ms, span[1] - still.start_ms
    inside = [point for point in points if low < point[0] < high]
    if where == "source":
        before = [point for point in points if point[0] <= 0] or points
        known = [point for point in inside if point[0] <= 0]
        # Between the last sample and the pause, the last speed is all that is known.
        shown = [*known, (0.0, before[-1][1])]
        return [(low, shown[0][1]), *shown]
    down = still.end_ms - still.start_ms
    after = [point for point in points if point[0] > down]
    if not after:
        return []
    known = [point for point in inside if point[0] > down]
    following = next((y for x, y in after if x >= high), after[-1][1])
    return [(down, after[0][1]), *known, (high, following)]
