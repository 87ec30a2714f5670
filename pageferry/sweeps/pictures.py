"""The pictures of a sweep in the HTML report: maps of the best strategy, and curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pageferry.common.html.palette import colour, strategy_colours
from pageferry.common.html.picture import Figure, Picture, axis, layout, text
from pageferry.common.report.summary import loss
from pageferry.common.units import figures, human_bytes
from pageferry.runs.rows import Spread
from pageferry.runs.tables import NOTHING, three_digits
from pageferry.sweeps.columns import Scalar, value_text
from pageferry.sweeps.curves import Curves, DowntimeCurve
from pageferry.sweeps.maps import Map, MapPlace

MOST_PICTURES: Final = 12  # of each kind: nobody looks at more
_LOG_FROM: Final = 30.0  # an axis is logarithmic from this ratio of greatest to least
_ROW: Final = 56  # pixels
_SYMBOLS: Final = ("circle", "square", "diamond", "triangle-up", "x", "star")
_DASHES: Final = ("solid", "dot", "dash", "dashdot", "longdash", "longdashdot")


def figure_text(name: str, value: float) -> str:
    """Write a figure with the unit that its name implies: `12.3 ms`, `537 MB`, `7.3 %`.

    Args:
        name: The column, such as `downtime_ms` or `guest_slowdown`.
        value: In the column's unit; of a slowdown, the share.

    Returns:
        A rounded number, with its unit where the name has one.
    """
    if name.endswith("_ms"):
        return f"{three_digits(value)} ms"
    if name.startswith("bytes") or name.endswith("_bytes"):
        return human_bytes(value)
    return loss(value) if name in ("guest_slowdown", "guest_lost") else figures(value, 4)


def words_of(place: MapPlace | None, figure: str, line: str = " ") -> str:
    """Write what stands at a place of a map: the best strategy, and its median.

    Args:
        place: None where no cell is.
        figure: The column that is compared.
        line: What separates the name from the figure.

    Returns:
        The words, with `≈` before them if another strategy overlaps the best; `–` if none got
        there.
    """
    if place is None or not place.ranks:
        return NOTHING
    best = place.ranks[0]
    mark = "≈ " if place.open else ""
    return f"{mark}{best.name}{line}{figure_text(figure, best.figure.median)}"


def best_meaning(figure: str, *, simulated: bool = False) -> str:
    """Explain in words what a map shows.

    Args:
        figure: The column that is compared.
        simulated: Whether no guest ran: there are no repeats to explain then.

    Returns:
        A sentence or two.
    """
    if simulated:
        return f"At each place: the strategy with the least {figure}, simulated."
    return (
        f"At each place: the strategy with the least {figure}, a median. ≈: runs of the next best"
        " overlap it, so that which of the two is better is not known."
    )


_BORDER: Final = " Look for the border where the colour changes: there the choice begins to matter."


def _strategies(found: Sequence[Map | Curves]) -> list[str]:
    """List all strategies in one order, so that a colour means the same in every picture."""
    names: dict[str, None] = {}
    for each in found:
        if isinstance(each, Map):
            names |= dict.fromkeys(r.name for place in each.places.values() for r in place.ranks)
        else:
            names |= dict.fromkeys(curve.name for curve in each.curves)
    return sorted(names)


def _hue(names: Sequence[str], name: str) -> str:
    return strategy_colours(names)[name]


def draw_sweep(
    found: Sequence[Map], drawn: Sequence[Curves], figure: str, *, simulated: bool = False
) -> list[Picture]:
    """Draw all maps and curves, up to `MOST_PICTURES` of either.

    Args:
        found: The maps.
        drawn: The curves.
        figure: The column by which the maps were made.
        simulated: Whether no guest ran.

    Returns:
        Maps, then curves; a kind without any has a sentence instead that says why.
    """
    names = _strategies([*found, *drawn])
    meaning = best_meaning(figure, simulated=simulated) + _BORDER
    out = [
        _map(number, each, names, figure, meaning)
        for number, each in enumerate(found[:MOST_PICTURES])
    ] or [
        Picture(
            "best",
            "The best strategy",
            meaning,
            missing="There is no map of the best strategy: only one strategy was run.",
            wide=True,
        )
    ]
    look = (
        "Right of the dashed line the guest dirties its memory faster than the link carries it."
        " Look for the strategies whose downtime stays low there."
    )
    title = "Downtime against dirty rate over bandwidth"
    missing = (
        "There is no curve: it needs a limited bandwidth, and a workload with a rate or a measured"
        " one."
    )
    out += [
        Picture(
            f"curve{number}",
            f"{title}: {each.title}" if each.title else title,
            look,
            _curves(each, names),
            note=_LEFT_OUT,
            wide=True,
            height=380,
        )
        for number, each in enumerate(drawn[:MOST_PICTURES])
    ] or [Picture("curve", title, look, missing=missing, wide=True)]
    return out


_LEFT_OUT: Final = (
    "A line for each strategy and bandwidth. The dirty rate is the one that the workload was asked"
    " for, as whole pages (pages that travel by line cost less); where it takes none, the first"
    " round's, measured. Bars: from the least to the greatest of several runs. Runs without a limit"
    " of bandwidth are not here."
)


def left_out(found: Sequence[Map | Curves], what: str) -> list[str]:
    """Say how many pictures there are where not all are drawn.

    Args:
        found: All of one kind.
        what: Their name, in the plural.

    Returns:
        One sentence, or none.
    """
    if len(found) <= MOST_PICTURES:
        return []
    return [f"{MOST_PICTURES} of {len(found)} {what} are shown: --filter chooses others."]


def _map(number: int, found: Map, names: Sequence[str], figure: str, meaning: str) -> Picture:
    columns, rows = found.columns, found.rows
    z: list[list[int | None]] = []
    words: list[list[str]] = []
    hovers: list[list[str]] = []
    for row in rows:
        places = [found.places.get((column, row)) for column in columns]
        z.append([names.index(p.ranks[0].name) if p and p.ranks else None for p in places])
        words.append([text(words_of(p, figure, "\n")).replace("\n", "<br>") for p in places])
        hovers.append([_hover(p, figure) for p in places])
    steps = [
        [edge / len(names), _hue(names, name)]
        for i, name in enumerate(names)
        for edge in (i, i + 1)
    ]
    title = f"The best strategy by {figure}"
    data = {
        "type": "heatmap",
        "x": list(range(len(columns))),
        "y": list(range(len(rows))),
        "z": z,
        "zmin": -0.5,
        "zmax": len(names) - 0.5,
        "colorscale": steps,
        "showscale": False,
        "xgap": 2,
        "ygap": 2,
        "hoverongaps": False,
        "text": words,
        "texttemplate": "%{text}",
        "textfont": {"color": colour("page"), "size": 12},
        "customdata": hovers,
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    return Picture(
        f"best{number}",
        f"{title}: {found.title}" if found.title else title,
        meaning,
        {
            "data": [data],
            "layout": layout(_ticks(found.x, columns), _ticks(found.y, rows)),
        },
        wide=True,
        height=110 + _ROW * len(rows),
    )


def _hover(place: MapPlace | None, figure: str) -> str:
    if place is None or not place.ranks:
        return "no strategy moved its guest"
    return "<br>".join(
        text(f"{rank.name}: {figure_text(figure, rank.figure.median)}{_range(rank.figure, figure)}")
        for rank in place.ranks
    )


def _range(spread: Spread, figure: str) -> str:
    if spread.least == spread.greatest:
        return ""
    return f" ({figure_text(figure, spread.least)} to {figure_text(figure, spread.greatest)})"


def _ticks(option: str | None, values: Sequence[Scalar]) -> Figure:
    names = [""] if option is None else [text(value_text(option, value)) for value in values]
    return axis(
        option or "",
        tickmode="array",
        tickvals=list(range(len(values))),
        ticktext=names,
        showgrid=False,
        fixedrange=True,
    )


def _curves(found: Curves, names: Sequence[str]) -> Figure:
    ratios = [ratio for curve in found.curves for ratio, _ in curve.points]
    downs = [spread.median for curve in found.curves for _, spread in curve.points]
    line = {"width": 1, "dash": "dash", "color": colour("soft")}
    edge = {"type": "line", "x0": 1, "x1": 1, "yref": "paper", "y0": 0, "y1": 1, "line": line}
    inside = min(ratios) < 1 < max(ratios)
    x, y = _scale(ratios), _scale(downs)
    word = ", logarithmic" if "type" in y else ""
    return {
        "data": [
            _curve(curve, names, named=curve.name not in {c.name for c in found.curves[:at]})
            for at, curve in enumerate(found.curves)
        ],
        "layout": layout(
            axis("dirty rate / bandwidth", **x),
            axis(f"downtime (ms{word})", **y),
            showlegend=True,
            shapes=[edge] if inside else [],
        ),
    }


def _curve(curve: DowntimeCurve, names: Sequence[str], *, named: bool) -> Figure:
    """Draw a curve; `named` puts it into the legend, which has each strategy once."""
    place = names.index(curve.name)
    hue = _hue(names, curve.name)
    spreads = [spread for _, spread in curve.points]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": text(curve.name),
        "legendgroup": text(curve.name),
        "showlegend": named,
        "x": [ratio for ratio, _ in curve.points],
        "y": [spread.median for spread in spreads],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [spread.greatest - spread.median for spread in spreads],
            "arrayminus": [spread.median - spread.least for spread in spreads],
            "color": hue,
            "thickness": 1,
            "width": 3,
            "visible": any(spread.greatest > spread.least for spread in spreads),
        },
        "line": {"color": hue, "dash": _DASHES[place % len(_DASHES)]},
        "marker": {"color": hue, "size": 9, "symbol": _SYMBOLS[place % len(_SYMBOLS)]},
        "hovertemplate": "%{fullData.name}, "
        + value_text("max-bandwidth", curve.bandwidth_Bps)
        + "<br>%{y:,.2f} ms at %{x:.3g}<extra></extra>",
    }


def _scale(values: Sequence[float]) -> Figure:
    positive = [value for value in values if value > 0]
    if len(positive) < len(values) or max(positive) < _LOG_FROM * min(positive):
        return {"rangemode": "tozero"}
    return {"type": "log", "dtick": 1}
