"""The map for a terminal: a table for each dirty rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pageferry.common.units import PAGE_SIZE
from pageferry.paper import ablation
from pageferry.paper.ablation import Ablation, Effects
from pageferry.paper.locality.data import CLAIM, FIGURES, MapDocument, Place, places_of, rates_of
from pageferry.paper.locality.points import REUSES, Point, Way
from pageferry.paper.locality.programs import ProgramPlace, WrittenSet, nearest
from pageferry.runs import tables
from pageferry.runs.tables import Sheet

_OTHERS: Final = {Way.UNCACHED: "without", Way.PRE_COPY: "pre-copy without"}
_MARK: Final = "*"  # beside a ratio that reaches the claim
_MORE: Final = "+"  # behind a working set that still grows with the window


def map_sheets(places: Sequence[Place], to: Way = Way.UNCACHED) -> list[Sheet]:
    """Make a table for each dirty rate: rows are lines of a page, columns working set / cache.

    Args:
        places: With all ways, of one map.
        to: What the way with the cache is compared with.

    Returns:
        The tables; each cell has the ratios of downtime, total time and bytes, and the path.
    """
    return [
        _sheet([each for each in places if each.point.rate == rate], rate, places, to)
        for rate in rates_of(places)
    ]


def document_sheets(found: MapDocument, *, whole: bool = False) -> list[Sheet]:
    """Make the tables of all measured places.

    Args:
        found: The map.
        whole: Whether what is compared with pre-copy without a cache is wanted, too.

    Returns:
        Of the map, and of the smaller one with reads.
    """
    maps = places_of(found.measured), places_of(found.measured, reads=True)
    ways = (Way.UNCACHED, Way.PRE_COPY) if whole else (Way.UNCACHED,)
    return [sheet for way in ways for places in maps for sheet in map_sheets(places, way)]


def _sheet(places: Sequence[Place], rate: float, every: Sequence[Place], to: Way) -> Sheet:
    by = {(each.point.lines, each.point.reuse): each for each in places}
    reuses = sorted({each.point.reuse for each in every})
    lines = sorted({each.point.lines for each in every})
    runs = max((each.rows[Way.CACHED].runs for each in places), default=0)
    how = f"measured, medians of {runs}" if runs else "in virtual time"
    reads = ", half of the accesses read" if any(each.point.reads for each in places) else ""
    return Sheet(
        title=(
            f"Downtime, total time and bytes with the cache / {_OTHERS[to]} ({how}): {rate:g} of"
            f" the link's rate dirtied{reads}"
        ),
        columns=("lines of a page", *(f"{reuse:g} caches" for reuse in reuses)),
        rows=tuple(
            (str(count), *(_cell(by.get((count, reuse)), to) for reuse in reuses))
            for count in lines
        ),
    )


def _cell(place: Place | None, to: Way) -> str:
    if place is None:
        return tables.NOTHING
    ratios = [place.ratio(figure, to) for figure in FIGURES]
    said = [f"{each:.2f}{_MARK if each <= CLAIM else ''}" for each in ratios]
    return f"{' '.join(said)} ({place.path})"


def program_sheet(places: Sequence[Place], programs: Sequence[ProgramPlace]) -> Sheet:
    """Make a table of real programs and guests at the map's place.

    Args:
        places: Of the map, at all dirty rates.
        programs: What they write within windows.

    Returns:
        The table: from the shortest window to the longest, with paths and ratios of the places
        nearest to the longest: how fast they write is not known, so over all dirty rates. Ratios
        are in brackets where the working set lies beyond the map.
    """
    rates = list(rates_of(places))
    return Sheet(
        title=(
            "Real programs and guests on the map, from the shortest window to the longest"
            f" ({_MORE}: a longer one would write more pages); simulated ratios with the cache /"
            f" without at the nearest place, for {rates[0]:g} to {rates[-1]:g} of the link's rate"
            " dirtied, in brackets beyond the map"
        ),
        columns=(
            *("what wrote", "what it did", "windows", "lines of a page (median)"),
            *("written, MiB (= caches)", "touched, MiB", "path", "downtime ratio", "total ratio"),
        ),
        rows=tuple(_program_row(places, each) for each in programs),
        left=3,
    )


def _program_row(places: Sequence[Place], program: ProgramPlace) -> tuple[str, ...]:
    first, last = program.sets[0], program.sets[-1]
    near = nearest(places, last)

    def ratios(figure: str) -> str:
        said = _range([each.ratio(figure) for each in near])
        return said if min(REUSES) <= last.reuse <= max(REUSES) else f"({said})"

    unit = "accesses" if program.kind == "program" else "ms"
    more = "" if program.settled else _MORE
    return (
        f"{program.name} ({program.kind})",
        program.load,
        f"{_span(f'{first.window:,.0f}', f'{last.window:,.0f}')} {unit}",
        _span(*(f"{each.lines:.1f} ({each.median_lines:g})" for each in (first, last))),
        _span(*(f"{each.reuse:.2g}" for each in (first, last))) + more,
        _touched(first, last),
        ", ".join(str(path) for path in sorted({each.path or 0 for each in near})),
        ratios("downtime_ms"),
        ratios("total_ms"),
    )


def _touched(first: WrittenSet, last: WrittenSet) -> str:
    """Write what is read or written, where that is known."""
    sizes = [each.pages_touched for each in (first, last) if each.pages_touched is not None]
    said = [f"{pages * PAGE_SIZE / 2**20:.2g}" for pages in sizes]
    return _span(said[0], said[-1]) if said else tables.NOTHING


def _span(begin: str, end: str) -> str:
    return begin if begin == end else f"{begin} → {end}"


def _range(values: Sequence[float]) -> str:
    """Write the least and the greatest of values."""
    least, most = f"{min(values):.2f}", f"{max(values):.2f}"
    return least if least == most else f"{least}–{most}"


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
        expected: Of the shipped map, measured; places that it has not are left blank.

    Returns:
        The table.
    """
    known = {each.point: each for each in expected}
    return Sheet(
        title="Places of the map, measured now: ratios with the cache / without",
        columns=(
            *("lines of a page", "working set / cache", "dirtied / link", "path"),
            *("downtime", "shipped", "total", "shipped", "bytes", "shipped"),
        ),
        rows=tuple(_quick_row(each, known.get(each.point)) for each in places),
        left=0,
    )


def _quick_row(place: Place, known: Place | None) -> tuple[str, ...]:
    at: Point = place.point
    out = [str(at.lines), f"{at.reuse:g}", f"{at.rate:g}", str(place.path)]
    for figure in FIGURES:
        out.append(f"{place.ratio(figure):.2f}")
        out.append(tables.NOTHING if known is None else f"{known.ratio(figure):.2f}")
    return tuple(out)
