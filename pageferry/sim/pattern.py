"""Which pages and lines so many visits write: expected distinct ones, without a loop over pages.

    Sweep    one page after the other, and round again: min(visits, pages)
    Scatter  pages at random, in classes of equal likelihood: n (1 - exp(-visits share)) each, as
             many independent visits are a Poisson process
    Curve    what was counted, of a trace

Which lines of a page a visit touches is a `Visit`: the same ones each time, or others, or as many
as a mixture says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pageferry.common.units import LINES_PER_PAGE

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


@dataclass(frozen=True, slots=True)
class Visit:
    """Which lines of a page one visit touches: classes of the page's lines.

    count: lines of each class; share: the likelihood that a visit touches one of them. writes: that
    a line which is touched is written; hit: that a visit writes at least one line; scattered:
    whether no line of the page is likelier than another.
    """

    count: Figures
    share: Figures
    writes: float
    hit: float
    scattered: bool

    @classmethod
    def of(cls, lines: float, writes: float = 1.0, *, scattered: bool = False) -> Visit:
        """So many lines, the same ones each time or others."""
        total = float(LINES_PER_PAGE) if scattered else lines
        hit = 1.0 - (1.0 - writes) ** lines
        return cls(np.array([total]), np.array([lines / total]), writes, hit, scattered)

    @classmethod
    def mixed(cls, counts: Sequence[int], writes: float = 1.0, *, scattered: bool = False) -> Visit:
        """As many lines as one of the counts says, each equally likely, from the page's first on.

        scattered: from any line on.
        """
        each = np.array(counts, np.float64)
        hit = float(1.0 - ((1.0 - writes) ** each).mean())
        if scattered:
            every = float(LINES_PER_PAGE)
            share = np.array([each.mean() / every])
            return cls(np.array([every]), share, writes, hit, scattered)
        above = (each[None, :] > np.arange(LINES_PER_PAGE)[:, None]).mean(axis=1)
        share, count = np.unique(above[above > 0], return_counts=True)
        return cls(count.astype(np.float64), share, writes, hit, scattered)

    @property
    def reading_too(self) -> Visit:
        """The same where what is read counts as well."""
        return replace(self, writes=1.0, hit=1.0)

    @property
    def reached(self) -> Figures:
        """The likelihood that a visit touches a page because of a class's lines."""
        return np.ones(1) if self.scattered else self.share


@dataclass(frozen=True, slots=True)
class Sweep:
    """See above."""

    pages: float
    visit: Visit

    @property
    def size(self) -> float:
        """See `Pattern`."""
        return self.pages

    def written(self, visits: float) -> Written:
        """See `Pattern`."""
        return self._distinct(visits, self.visit)

    def touched(self, visits: float) -> Written:
        """See `Pattern`."""
        return self._distinct(visits, self.visit.reading_too)

    def _distinct(self, visits: float, visit: Visit) -> Written:
        if visits <= 0 or self.pages <= 0:
            return _figures(0.0, 0.0)
        reached, passes = min(visits, self.pages), max(visits / self.pages, 1.0)
        pages = reached * (1.0 - (1.0 - visit.hit) ** passes)
        each = 1.0 - (1.0 - visit.share * visit.writes) ** passes
        return _figures(pages, reached * float((visit.count * each).sum()))

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
    visit: Visit

    @property
    def size(self) -> float:
        """See `Pattern`."""
        return float(self.count.sum())

    def written(self, visits: float) -> Written:
        """See `Pattern`."""
        return self._distinct(visits, self.visit)

    def touched(self, visits: float) -> Written:
        """See `Pattern`."""
        return self._distinct(visits, self.visit.reading_too)

    def _distinct(self, visits: float, visit: Visit) -> Written:
        mean = max(visits, 0.0) * self.share  # expected visits of a page
        pages = -np.expm1(-mean * visit.hit)
        lines = -np.expm1(-np.outer(mean, visit.share * visit.writes)) @ visit.count
        return Written(self.count * pages, self.count * lines)

    def written_back(self, visits: float, kept: float) -> Written:
        """A line goes when nobody has touched it for as long as the cache keeps one.

        Che, Tung, Wang (2002): that time is about the same for all lines of a large LRU cache. A
        page counts where the likeliest of its lines to have gone has: those of a visit go together.
        """
        if math.isinf(kept):
            return self.written(0.0)
        visit = self.visit
        untouched = np.exp(-kept * np.outer(self.share, visit.share))
        mean = max(visits - kept, 0.0) * self.share[:, None] * untouched
        pages = -np.expm1(-(mean * visit.reached).max(axis=1) * visit.hit)
        lines = -np.expm1(-mean * visit.share * visit.writes) @ visit.count
        return Written(self.count * pages, self.count * lines)


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
