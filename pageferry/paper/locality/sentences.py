"""What the map says, as three sentences; they are computed from its data, and change with it.

Pure: places and effects in, text out.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from pageferry.common.config.strategy import StrategyConfig
from pageferry.common.units import figures, format_size
from pageferry.paper.ablation import SWITCHES, Effects
from pageferry.paper.locality.data import CLAIM, Place
from pageferry.paper.locality.points import CACHE, MEMORY, LINK_Bps, Way

# Share of memory below which path 2 stops: the map's guests move with the default.
_LOW: Final = StrategyConfig().low


def claim_sentence(places: Sequence[Place]) -> str:
    """Say over which locality the claim of 0.4 holds.

    Args:
        places: That were measured.

    Returns:
        Two sentences: where it holds for the downtime, and where for the total time.
    """
    if not places:
        return "Nothing has been measured."
    parts = [
        _where(places, "downtime_ms", "the downtime"),
        _where(places, "total_ms", "the total time"),
    ]
    both = sum(place.holds("downtime_ms") and place.holds("total_ms") for place in places)
    return (
        f"The paper's ratio of {CLAIM}, three-path with its cache of {format_size(CACHE)} against"
        f" the same without it, is reached {parts[0]}, and {parts[1]}; for both at"
        f" {both} of {len(places)} measured places."
    )


def _where(places: Sequence[Place], figure: str, name: str) -> str:
    """Say where it holds: at how many places, and in which corner of the map they lie."""
    held = [place for place in places if place.holds(figure)]
    if not held:
        best = min(place.ratio(figure) for place in places)
        return f"for {name} nowhere (the least is {best:.2f})"
    corner, inside = _corner(places, held)
    of_them = sum(place.holds(figure) for place in inside)
    said = f"for {name} at {len(held)} of {len(places)}"
    if len(held) == len(places):
        return said
    return f"{said}, which all have {corner} ({of_them} of the {len(inside)} places there)"


def _corner(places: Sequence[Place], held: Sequence[Place]) -> tuple[str, list[Place]]:
    """Describe the smallest corner of the map that has all of some places."""
    lines = max(place.point.lines for place in held)
    reuse = min(place.point.reuse for place in held)
    rate = min(place.point.rate for place in held)
    inside = [
        place
        for place in places
        if place.point.lines <= lines and place.point.reuse >= reuse and place.point.rate >= rate
    ]
    parts = [
        _bound(places, lambda at: at.lines, lines, "at most {} lines written of a page", most=True),
        _bound(places, lambda at: at.reuse, reuse, "a working set of {} caches or more"),
        _bound(places, lambda at: at.rate, rate, "{} of the link's rate dirtied or more"),
    ]
    return _listed([part for part in parts if part]) or "anything", inside


def _bound(
    places: Iterable[Place],
    value: Callable[..., float],
    bound: float,
    words: str,
    *,
    most: bool = False,
) -> str:
    """Word a bound; empty where it excludes no place."""
    values = [value(place.point) for place in places]
    if bound == (max(values) if most else min(values)):
        return ""
    return words.format(figures(bound, 3))


def _listed(parts: Sequence[str]) -> str:
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def mechanism_sentence(found: Effects) -> str:
    """Say what part each mechanism has in what the strategy saves.

    Args:
        found: Effects of the three switches and of their pairs.

    Returns:
        One sentence, about bytes and about the downtime.
    """
    said = [
        f"of {_amount(figure, found.saving(figure))} that all three save"
        f" ({found.saving(figure) / found.plain(figure):.0%} of the {name}),"
        f" {_parts(found, figure)}"
        for figure, name in (("bytes", "bytes on the wire"), ("downtime_ms", "downtime"))
    ]
    return f"At {found.workload}: {'; '.join(said)}."


def _parts(found: Effects, figure: str) -> str:
    whole = found.saving(figure)
    parts = sorted(found.of(figure).items(), key=lambda item: -abs(item[1]))
    words = [
        f"{_name(switches)} {effect / whole:+.0%}"
        for switches, effect in parts
        if whole and abs(effect / whole) >= 0.005
    ]
    return _listed(words) if words else "none has a part"


def _name(switches: frozenset[str]) -> str:
    return " together with ".join(SWITCHES[each] for each in sorted(switches))


def _amount(figure: str, value: float) -> str:
    return f"{value / 1e6:.3g} MB" if figure == "bytes" else f"{value:.3g} ms"


def path2_sentence(places: Sequence[Place]) -> str:
    """Say why path 2's downtime can be longer than plain pre-copy's.

    Args:
        places: That were measured.

    Returns:
        One sentence.
    """
    taken = [place for place in places if place.path == 2]
    if not taken:
        return "Path 2 was taken at no measured place."
    longer = [place for place in taken if place.ratio("downtime_ms", Way.PRE_COPY) > 1]
    most_ms = _LOW * MEMORY / LINK_Bps * 1e3
    said = f"Path 2 was taken at {len(taken)} of {len(places)} measured places"
    if not longer:
        return f"{said}, and its downtime was longer than plain pre-copy's at none of them."
    factor = statistics.median(place.ratio("downtime_ms", Way.PRE_COPY) for place in longer)
    fewer = statistics.median(
        place.rows[Way.PRE_COPY].rounds - place.rows[Way.CACHED].rounds for place in longer
    )
    return (
        f"{said}; at {len(longer)} of them its downtime was longer than that of pre-copy without"
        f" a cache, {figures(factor, 3)} times in the median: path 2 stops as soon as less than"
        f" {_LOW:.0%} of memory is dirty, which is up to {most_ms:.0f} ms of the link whatever the"
        f" downtime limit is, where pre-copy went on for {fewer:g} more rounds"
        " (--path2-stop limit has path 2 ask the limit instead)."
    )
