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

_SEEN: Final = 0.005  # a smaller share is not told
_LEAST_MS: Final = 1.0  # a shorter difference of two downtimes is none
# Share of memory below which path 2 stops: the map's guests move with the default.
_LOW: Final = StrategyConfig().low


def claim_sentence(places: Sequence[Place]) -> str:
    """Say over which locality the claim of 0.4 holds.

    Args:
        places: That were measured.

    Returns:
        One sentence: where it holds for the downtime, and where for the total time.
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
    said = f"for {name} at {len(held)} of {len(places)}"
    if len(held) == len(places) or not corner:
        return said
    return f"{said}, which all have {corner} ({len(inside)} places have that)"


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
        _bound(places, lambda at: at.lines, lines, "no more than {} of a page's lines", most=True),
        _bound(places, lambda at: at.reuse, reuse, "a working set of {} × the cache or more"),
        _bound(places, lambda at: at.rate, rate, "a dirty rate of {} × the link's or more"),
    ]
    return _listed([part for part in parts if part]), inside


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
        One sentence, about bytes and about the downtime: shares of what is without all three.
    """
    said = [_saved(found, "bytes", "bytes on the wire"), _saved(found, "downtime_ms", "downtime")]
    return f"At {found.workload} all three mechanisms together {'; '.join(said)}."


def _saved(found: Effects, figure: str, name: str) -> str:
    plain, whole = found.plain(figure), found.saving(figure)
    if plain <= 0:
        return f"had no {name} to save"
    parts = sorted(found.of(figure).items(), key=lambda item: -abs(item[1]))
    words = [
        f"{_name(switches)} {'saves' if effect > 0 else 'costs'} {abs(effect) / plain:.0%}"
        for switches, effect in parts
        if abs(effect) / plain >= _SEEN
    ]
    did = "save" if whole >= 0 else "cost"
    share = abs(whole) / plain
    return f"{did} {share:.0%} of the {name}: {_listed(words) or 'none has a part'}"


def _name(switches: frozenset[str]) -> str:
    name = " with ".join(SWITCHES[each] for each in sorted(switches, reverse=True))
    return f"{name}, beyond each alone," if len(switches) > 1 else f"{name} alone"


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
    said = f"Path 2 was taken at {len(taken)} of {len(places)} measured places"
    longer = [place for place in taken if _stands_longer(place)]
    if not longer:
        return (
            f"{said}, and at none of them its downtime was longer than that of pre-copy without a"
            " cache by more than runs differ."
        )
    ours = [place.rows[Way.CACHED].downtime_ms for place in longer]
    theirs = [place.rows[Way.PRE_COPY].downtime_ms for place in longer]
    said += (
        f"; at {len(longer)} of them its downtime was longer than that of pre-copy without a cache"
        f" by more than runs differ: {_range(ours)} ms beside {_range(theirs)}"
    )
    early = [place for place in longer if _rounds_fewer(place) > 0]
    if not early:
        return f"{said}, after as many rounds."
    fewer = statistics.median(_rounds_fewer(place) for place in early)
    most_ms = _LOW * MEMORY / LINK_Bps * 1e3
    where = "there" if len(early) == len(longer) else f"at {len(early)} of these"
    return (
        f"{said}, since {where} it stopped as soon as less than {_LOW:.0%} of memory was dirty,"
        f" which may be {most_ms:.0f} ms of the link whatever the downtime limit is, and pre-copy"
        f" went on for {fewer:g} more rounds (--path2-stop limit has path 2 ask the limit instead)."
    )


def _stands_longer(place: Place) -> bool:
    """Tell whether the cache's downtime is longer than pre-copy's by more than runs differ."""
    ours, theirs = place.rows[Way.CACHED], place.rows[Way.PRE_COPY]
    differ = max(ours.downtime_spread, theirs.downtime_spread, _LEAST_MS)
    return ours.downtime_ms - theirs.downtime_ms > differ


def _rounds_fewer(place: Place) -> int:
    return place.rows[Way.PRE_COPY].rounds - place.rows[Way.CACHED].rounds


def _range(values: Sequence[float]) -> str:
    low, high = figures(min(values), 3), figures(max(values), 3)
    return low if low == high else f"{low} to {high}"
