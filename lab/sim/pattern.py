"""Which pages and lines so many visits write: expected distinct ones, without a loop over pages.

    Sweep    one page after the other, and round again: min(visits, pages)
    Scatter  pages at random, in classes of equal likelihood: n (1 - exp(-visits share)) each, as
             many independent visits are a Poisson process
    Curve    what was counted, of a trace

Within a visit `lines` lines are written, or read, of `line_set` ones that the page's visits choose
from: the same ones each time, or (64) others. A line is written with the likelihood `writes`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Figures = NDArray[np.float64]


class Written(NamedTuple):
    """Distinct pages, and distinct lines of them; a figure for each class of pages."""

    pages: Figures
    lines: Figures


class Pattern(Protocol):
    """Of one vCPU's region."""

    @property
    def size(self) -> float:
        """Pages that it ever visits."""
        ...

    def written(self, visits: float) -> Written:
        """By so many visits."""
        ...

    def touched(self, visits: float) -> Written:
        """The same with the reads."""
        ...

    def written_back(self, visits: float, kept: float) -> Written:
        """Of what so many visits have written, what a cache has given back.

        The cache holds what the last `kept` visits have touched (infinite: all of it).
        """
        ...


def _figures(pages: float, lines: float) -> Written:
    return Written(np.array([pages]), np.array([lines]))


def _hit(writes: float, lines: float) -> float:
    """The likelihood that a visit writes at least one line."""
    return float(1.0 - (1.0 - writes) ** lines)


@dataclass(frozen=True, slots=True)
class Sweep:
    """See above."""

    pages: float
    lines: float
    line_set: float
    writes: float = 1.0

    @property
    def size(self) -> float:
        """See `Pattern`."""
        return self.pages

    def written(self, visits: float) -> Written:
        """See `Pattern`."""
        return self._distinct(visits, self.writes)

    def touched(self, visits: float) -> Written:
        """See `Pattern`."""
        return self._distinct(visits, 1.0)

    def _distinct(self, visits: float, writes: float) -> Written:
        if visits <= 0 or self.pages <= 0:
            return _figures(0.0, 0.0)
        reached, passes = min(visits, self.pages), max(visits / self.pages, 1.0)
        pages = reached * (1.0 - (1.0 - _hit(writes, self.lines)) ** passes)
        each = 1.0 - (1.0 - self.lines * writes / self.line_set) ** passes
        return _figures(pages, reached * self.line_set * each)

    def written_back(self, visits: float, kept: float) -> Written:
        """See `Pattern`."""
        if kept >= self.pages:  # it comes round before it would have to go
            return _figures(0.0, 0.0)
        return self.written(visits - kept)


@dataclass(frozen=True, slots=True)
class Scatter:
    """Classes of pages. count: pages of each; share: of one such page, of all visits."""

    count: Figures
    share: Figures
    lines: float
    line_set: float
    writes: float = 1.0

    @property
    def size(self) -> float:
        """See `Pattern`."""
        return float(self.count.sum())

    def written(self, visits: float) -> Written:
        """See `Pattern`."""
        return self._distinct(max(visits, 0.0) * self.share, self.writes)

    def touched(self, visits: float) -> Written:
        """See `Pattern`."""
        return self._distinct(max(visits, 0.0) * self.share, 1.0)

    def _distinct(self, mean: Figures, writes: float) -> Written:
        """mean: expected visits of a page."""
        pages = -np.expm1(-mean * _hit(writes, self.lines))
        lines = -np.expm1(-mean * self.lines * writes / self.line_set) * self.line_set
        return Written(self.count * pages, self.count * lines)

    def written_back(self, visits: float, kept: float) -> Written:
        """A line goes when nobody has touched it for as long as the cache keeps one.

        Che, Tung, Wang (2002): that time is about the same for all lines of a large LRU cache.
        """
        if math.isinf(kept):
            return self.written(0.0)
        untouched = np.exp(-kept * self.share * self.lines / self.line_set)
        return self._distinct(max(visits - kept, 0.0) * self.share * untouched, self.writes)


@dataclass(frozen=True, slots=True)
class Counted:
    """Through counted points, each list rising from 0: after `visits` so many were written, touched

    (pages, lines).
    """

    visits: Figures
    pages: Figures
    lines: Figures
    touched_pages: Figures
    touched_lines: Figures

    @property
    def size(self) -> float:
        """See `Pattern`."""
        return float(self.touched_pages[-1])

    def written(self, visits: float) -> Written:
        """See `Pattern`."""
        return self._at(visits, self.pages, self.lines)

    def touched(self, visits: float) -> Written:
        """See `Pattern`."""
        return self._at(visits, self.touched_pages, self.touched_lines)

    def _at(self, visits: float, pages: Figures, lines: Figures) -> Written:
        return _figures(
            float(np.interp(visits, self.visits, pages)),
            float(np.interp(visits, self.visits, lines)),
        )

    def written_back(self, visits: float, kept: float) -> Written:
        """See `Pattern`."""
        return self.written(0.0 if math.isinf(kept) else visits - kept)
