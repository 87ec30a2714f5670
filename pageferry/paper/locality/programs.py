"""Real programs and guests at the map's place: what they write within a time, as it ships.

A program's trace has no clock and a guest that is emulated runs too slowly, so how fast they write
is not known: each is a line through the map, along the dirty rate. What is known is how many
distinct pages, and how many lines of them, are written within windows of several lengths: a
working set that still grows with the window is drawn as a path.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from pageferry.common.units import PAGE_SIZE
from pageferry.paper.locality.data import Place, rates_of
from pageferry.paper.locality.points import CACHE
from pageferry.paper.shipped_file import shipped_text

SETTLED: Final = 1.1  # of the pages that a window half as long writes


class WrittenSet(BaseModel):
    """What is written within a window.

    Attributes:
        window: Its length: accesses of a program, milliseconds of a guest.
        pages: Distinct pages that are written.
        lines: 64-byte lines of such a page that are written, in the mean.
        median_lines: The median of them.
        pages_touched: Distinct pages that are read or written; None of a guest, whose reads are not
            seen.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    window: float
    pages: float
    lines: float
    median_lines: float
    pages_touched: float | None = None

    @property
    def reuse(self) -> float:
        """Working set, that is the pages that are written / the map's cache of 1 MiB."""
        return self.pages * PAGE_SIZE / CACHE


class ProgramPlace(BaseModel):
    """A real program or guest.

    Attributes:
        name: Of the program, or of the guest's load.
        kind: A program's trace by valgrind's lackey, or a Linux guest whose memory was compared.
        load: What it did.
        version: Of the program; empty of a guest.
        skipped: Accesses before the first window, in which it started up; None of a guest.
        writes: Share of its accesses that write; None of a guest, where they are not seen.
        writes_per_line: How often a line that is written is written within the longest window; None
            of a guest.
        sets: What it writes, by windows that grow.
        extract: The same of the extract of its trace in docs/traces/; empty of a guest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Literal["program", "guest"]
    load: str
    version: str
    skipped: int | None = None
    writes: float | None
    writes_per_line: float | None
    sets: tuple[WrittenSet, ...]
    extract: tuple[WrittenSet, ...] = ()

    @property
    def settled(self) -> bool:
        """Whether the longest window writes hardly more pages than the one before."""
        return self.sets[-1].pages <= SETTLED * self.sets[-2].pages


class ProgramsDocument(BaseModel):
    """All of them.

    Attributes:
        made: The day on which the programs were traced, ISO 8601.
        machine: What they were traced on.
        valgrind: Its version.
        about: How the guests were measured.
        places: Programs, then guests.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    made: str
    machine: dict[str, str]
    valgrind: str
    about: str
    places: tuple[ProgramPlace, ...]


@cache
def shipped_programs() -> ProgramsDocument:
    """Return the programs and guests that come with this version."""
    return ProgramsDocument.model_validate_json(shipped_text("programs.json"))


def nearest(places: Sequence[Place], at: WrittenSet) -> list[Place]:
    """Find the places of a map that are nearest to what is written within a window.

    Args:
        places: Of the map, at all dirty rates.
        at: What is written.

    Returns:
        One place for each dirty rate, the lowest first: distances are of logarithms.
    """

    def distance(place: Place) -> float:
        lines, reuse = place.point.lines, place.point.reuse
        return math.hypot(math.log(lines / max(at.lines, 1.0)), math.log(reuse / at.reuse))

    return [
        min((each for each in places if each.point.rate == rate), key=distance)
        for rate in rates_of(places)
    ]
