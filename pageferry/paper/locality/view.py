"""The map for a terminal: a table for each dirty rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pageferry.paper import ablation
from pageferry.paper.ablation import Ablation, Effects
from pageferry.paper.locality.data import CLAIM, MapDocument, Place, places_of, rates_of
from pageferry.paper.locality.points import Point, Way
from pageferry.runs import tables
from pageferry.runs.tables import Sheet

_MARK: Final = "*"  # beside a ratio that reaches the claim


def map_sheets(places: Sequence[Place]) -> list[Sheet]:
    """Make a table for each dirty rate: rows are lines of a page, columns working set / cache.

    Args:
        places: With all ways, of one map.

    Returns:
        The tables; each cell has the ratios of downtime and total time, and the path.
    """
    return [_sheet([each for each in places if each.point.rate == rate], rate, places)
            for rate in rates_of(places)]  # fmt: skip


def _sheet(places: Sequence[Place], rate: float, every: Sequence[Place]) -> Sheet:
    by = {(each.point.lines, each.point.reuse): each for each in places}
    reuses = sorted({each.point.reuse for each in every})
    lines = sorted({each.point.lines for each in every})
    runs = max((each.rows[Way.CACHED].runs for each in places), default=0)
    how = f"measured, medians of {runs}" if runs else "in virtual time"
    reads = ", half of the accesses read" if any(each.point.reads for each in places) else ""
    return Sheet(
        title=(
            f"Downtime and total time with the cache / without ({how}): {rate:g} of the link's rate"
            f" dirtied{reads}"
        ),
        columns=("lines of a page", *(f"{reuse:g} caches" for reuse in reuses)),
        rows=tuple(
            (str(count), *(_cell(by.get((count, reuse))) for reuse in reuses)) for count in lines
        ),
    )


def _cell(place: Place | None) -> str:
    if place is None:
        return tables.NOTHING
    ratios = [place.ratio(figure) for figure in ("downtime_ms", "total_ms")]
    said = [f"{each:.2f}{_MARK if each <= CLAIM else ''}" for each in ratios]
    return f"{' '.join(said)} ({place.path})"


def map_notes(found: MapDocument) -> list[str]:
    """Say how the map was made and how its tables are read.

    Args:
        found: The map.

    Returns:
        Paragraphs.
    """
    machine = found.machine
    measured = [row for row in found.measured if row.way == Way.CACHED]
    verified = sum(row.verified for row in found.measured)
    runs = sum(row.runs for row in found.measured)
    return [
        f"The map: {len(places_of(found.simulated))} places in virtual time, {len(measured)} of"
        f" them and of the map with reads on real memory ({runs} migrations, {verified} verified by"
        f" replay), measured on {found.made}: {machine.get('processor', 'unknown')},"
        f" {machine.get('cores', '?')} cores, {machine.get('kernel', '')}. A 128 MiB guest, a cache"
        " of 1 MiB, 100 MB/s; the same strategy with and without its cache, which hands over by"
        f" stop-and-copy. {_MARK} beside a ratio: the claim of {CLAIM} is reached; in brackets the"
        " path that was taken with the cache."
    ]


def ablation_sheets(found: Ablation, effects: Effects) -> list[Sheet]:
    """Make the tables of an ablation: all combinations, and the effects.

    Args:
        found: What was measured.
        effects: Of it.

    Returns:
        Two tables.
    """
    combinations = list(ablation.combinations())
    means = effects.means
    rows = tuple(
        (
            ablation.label(on),
            *(_amount(figure, means[figure][on]) for figure in ablation.FIGURES),
        )
        for on in combinations
    )
    titles = ("MB on the wire", "total ms", "downtime ms")
    seeds = len(found.values("bytes")[frozenset()])
    saved = tuple(
        (
            ablation.label(on),
            *(
                f"{effects.of(figure)[on] / effects.plain(figure):+.1%}"
                for figure in ablation.FIGURES
            ),
        )
        for on in combinations
        if on
    )
    return [
        Sheet(f"Which mechanisms are on: {found.workload}, means of {seeds} seeds",
              ("on", *titles), rows),
        Sheet("What each saves beyond its parts", ("effect of", *titles), saved),
    ]  # fmt: skip


def _amount(figure: str, value: float) -> str:
    return f"{value / 1e6:.1f}" if figure == "bytes" else f"{value:,.1f}"


def quick_sheet(places: Sequence[Place], expected: Sequence[Place]) -> Sheet:
    """Make a table of a few places, measured just now, beside those of the shipped map.

    Args:
        places: As they were measured.
        expected: Of the map in virtual time; places that it has not are left blank.

    Returns:
        The table.
    """
    known = {each.point: each for each in expected}
    return Sheet(
        title="Places of the map, measured now: ratios with the cache / without",
        columns=(
            *("lines of a page", "working set / cache", "dirtied / link", "path"),
            *("downtime", "simulated", "total", "simulated", "bytes", "simulated"),
        ),
        rows=tuple(_quick_row(each, known.get(each.point)) for each in places),
        left=0,
    )


def _quick_row(place: Place, known: Place | None) -> tuple[str, ...]:
    at: Point = place.point
    out = [str(at.lines), f"{at.reuse:g}", f"{at.rate:g}", str(place.path)]
    for figure in ("downtime_ms", "total_ms", "bytes"):
        out.append(f"{place.ratio(figure):.2f}")
        out.append(tables.NOTHING if known is None else f"{known.ratio(figure):.2f}")
    return tuple(out)
