"""What a notebook shows of a report: its table, and the guest's speed as a drawing without scripts.

A notebook may be looked at where no script runs and no network is asked (a review, an export), so
the picture is plain SVG. Text takes the notebook's own colour, whether its theme is light or dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from markupsafe import escape

from pageferry.common.html.guest import from_its_start
from pageferry.common.html.palette import LIGHT
from pageferry.common.html.picture import ChartPhase, phases
from pageferry.common.html.series import Point, TimeAxis, thin_points
from pageferry.common.report.schema import Report
from pageferry.common.report.summary import headline
from pageferry.common.terminal.console import result_rows
from pageferry.common.units import figures

_WIDTH: Final = 720  # of the drawing
_HEIGHT: Final = 200
_LEFT: Final = 64  # of the plot, in it
_TOP: Final = 18
_RIGHT: Final = 708
_BOTTOM: Final = 164
_COLUMNS: Final = 300  # of pixels, to which points are thinned
_MOST_PICTURES: Final = 12
_SHADES: Final = {
    "full": ("full", 0.10),
    "dirty": ("dirty", 0.22),
    "drain": ("drain", 0.16),
    "stop": ("stop", 0.55),
    "post-copy": ("dest", 0.14),
}
_LEFT_CELL: Final = ' style="text-align:left"'


def report_fragment(report: Report) -> str:
    """Make the HTML fragment that shows one report.

    Args:
        report: Of one run, of any outcome.

    Returns:
        A `div`; every text of the report is escaped.
    """
    rows = "".join(
        f"<tr><th{_LEFT_CELL}>{escape(name)}</th><td{_LEFT_CELL}>{escape(value)}</td></tr>"
        for name, value in result_rows(report)
    )
    title = f"<p><b>{escape(headline(report))}</b></p>"
    return f"<div>{title}<table>{rows}</table>{speed_drawing(report)}</div>"


def reports_fragment(
    sheets: Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]],
    notes: Sequence[str],
    runs: Sequence[tuple[str, Report]],
) -> str:
    """Make the HTML fragment that shows several reports.

    Args:
        sheets: Tables: title, headings, rows of text.
        notes: Sentences below them.
        runs: Each run's label and report. Only the first 12 have their speed drawn, and the
            fragment says so.

    Returns:
        A `div`; every text is escaped.
    """
    parts = [_table(*sheet) for sheet in sheets]
    parts += [f"<p>{escape(note)}</p>" for note in notes]
    for label, report in runs[:_MOST_PICTURES]:
        parts.append(f"<p><b>{escape(label)}</b></p>{speed_drawing(report)}")
    if len(runs) > _MOST_PICTURES:
        left = len(runs) - _MOST_PICTURES
        parts.append(f"<p>Speeds of {left:,} more runs are not drawn.</p>")
    return f"<div>{''.join(parts)}</div>"


def _table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Make an HTML table under its title."""
    head = "".join(f"<th>{escape(each)}</th>" for each in headings)
    body = "".join(
        "<tr>" + "".join(f"<td>{_lines(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<p><b>{escape(title)}</b></p><table><tr>{head}</tr>{body}</table>"


def _lines(cell: str) -> str:
    """Escape a cell's text and keep its line breaks."""
    return "<br>".join(str(escape(line)) for line in cell.split("\n"))


def speed_drawing(report: Report) -> str:
    """Draw the guest's speed over time as SVG.

    Args:
        report: Of one run; samples that are no finite numbers are left out.

    Returns:
        An `svg` element; empty text where there are fewer than two samples.
    """
    samples = [
        each
        for each in report.guest.timeline
        if math.isfinite(each.t_ms) and math.isfinite(each.steps_per_s)
    ]
    if len(samples) < 2:
        return ""
    begin, end = min(s.t_ms for s in samples), max(s.t_ms for s in samples)
    most = max(1e-9, *(s.steps_per_s for s in samples))
    scale = _Scale(begin, max(end - begin, 1e-9), most)
    parts = [scale.band(phase) for phase in phases(report)]
    for where in ("source", "dest"):
        points: list[Point] = [(s.t_ms, s.steps_per_s) for s in samples if s.where == where]
        if points:
            whole = thin_points(from_its_start(report, where, points), _COLUMNS)
            parts.append(scale.line(whole.points, LIGHT[where]))
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}"'
        ' role="img" aria-label="the guest\'s speed over time" font-size="11"'
        f' font-family="sans-serif">{"".join(parts)}{scale.axes()}</svg>'
    )


class _Scale:
    """A conversion of milliseconds and steps a second to places in the drawing."""

    def __init__(self, begin_ms: float, span_ms: float, most: float) -> None:
        self._begin_ms, self._span_ms, self._most = begin_ms, span_ms, most

    def _x(self, t_ms: float) -> float:
        share = min(max((t_ms - self._begin_ms) / self._span_ms, 0.0), 1.0)
        return round(_LEFT + share * (_RIGHT - _LEFT), 1)

    def _y(self, steps_per_s: float) -> float:
        return round(_BOTTOM - steps_per_s / self._most * (_BOTTOM - _TOP), 1)

    def band(self, phase: ChartPhase) -> str:
        """Draw a stretch of the migration; a stop is never too narrow to be seen."""
        name, opacity = _SHADES.get(phase.kind, ("full", 0.1))
        x = self._x(phase.start_ms)
        width = round(self._x(phase.end_ms) - x, 1)
        if phase.kind == "stop":
            width = max(width, 1.5)
        return (
            f'<rect x="{x}" y="{_TOP}" width="{width}" height="{_BOTTOM - _TOP}"'
            f' fill="{LIGHT[name]}" opacity="{opacity}"><title>{escape(phase.name)}</title></rect>'
        )

    def line(self, points: Sequence[Point], colour: str) -> str:
        """Draw a speed. A sample tells of the time before it: first up or down, then across."""
        first, *rest = points
        path = f"M{self._x(first[0])} {self._y(first[1])}"
        path += "".join(f"V{self._y(y)}H{self._x(x)}" for x, y in rest)
        return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>'

    def axes(self) -> str:
        """Draw both axes, with their ends and what they show."""
        unit = TimeAxis.of(self._span_ms)
        end_ms = self._begin_ms + self._span_ms
        legend = (
            f'<tspan fill="{LIGHT["source"]}">at the source</tspan>,'
            f' <tspan fill="{LIGHT["dest"]}">at the destination</tspan>;'
            f' <tspan fill="{LIGHT["stop"]}">downtime</tspan>'
        )
        return (
            f'<path d="M{_LEFT} {_TOP}V{_BOTTOM}H{_RIGHT}" fill="none" stroke="currentColor"/>'
            + _text(_LEFT - 6, _TOP + 4, figures(self._most, 3), "end")
            + _text(_LEFT - 6, _BOTTOM, "0", "end")
            + _text(_LEFT, _BOTTOM + 14, figures(unit(self._begin_ms), 3), "middle")
            + _text(_RIGHT, _BOTTOM + 14, f"{figures(unit(end_ms), 3)} {unit.unit}", "end")
            + _text(_LEFT, _TOP - 6, "the guest's steps a second", "start")
            + f'<text x="{_LEFT}" y="{_BOTTOM + 30}" fill="currentColor">{legend}</text>'
        )


def _text(x: float, y: float, words: str, anchor: str) -> str:
    """Write a text into the drawing."""
    return (
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="currentColor">{escape(words)}</text>'
    )
