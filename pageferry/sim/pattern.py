"""Which pages and lines a number of visits writes: expected distinct ones, with no loop over pages.

    Sweep    one page after the other, and round again: min(visits, pages)
    Scatter  pages at random, in classes of equal likelihood: n (1 - exp(-visits share)) each, as
             many independent visits are a Poisson process
    Counted  what was counted in a trace

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
    """Distinct pages, and distinct lines of them; one figure for each class of pages.

    Attributes:
        pages: float64[classes].
        lines: float64[classes], 64-byte lines of those pages.
    """

    pages: Figures
    lines: Figures


class Pattern(Protocol):
    """What visits write in one vCPU's region."""

    @property
    def size(self) -> float:
        """Pages that are ever visited."""
        ...

    def written(self, visits: float) -> Written:
        """Compute what is written by so many visits.

        Args:
            visits: How many; nothing is written by a negative number.

        Returns:
            Distinct pages and lines.
        """
        ...

    def touched(self, visits: float) -> Written:
        """Compute what is written or read by so many visits.

        Args:
            visits: How many.

        Returns:
            Distinct pages and lines.
        """
        ...

    def written_back(self, visits: float, kept: float) -> Written:
        """Compute how much of what was written a cache has given back.

        The cache holds what the last `kept` visits have touched.

        Args:
            visits: Visits that have written.
            kept: Visits that the cache reaches back; infinite is all.

        Returns:
            Distinct pages and lines.
        """
        ...


def _figures(pages: float, lines: float) -> Written:
    return Written(np.array([pages]), np.array([lines]))


@dataclass(frozen=True, slots=True)
class Visit:
    """Which lines of a page one visit touches, in classes of the page's lines.

    Attributes:
        count: float64[classes], lines of each class.
        share: float64[classes], the likelihood that a visit touches a given line of the class.
        writes: The likelihood that a line which is touched is written.
        hit: The likelihood that a visit writes at least one line.
        scattered: Whether no line of the page is likelier than another.
    """

    count: Figures
    share: Figures
    writes: float
    hit: float
    scattered: bool

    @classmethod
    def of(cls, lines: float, writes: float = 1.0, *, scattered: bool = False) -> Visit:
        """Make a visit that touches a fixed number of lines.

        Args:
            lines: How many lines.
            writes: Likelihood that a touched line is written.
            scattered: Whether they are other lines each time; else they are the same ones.

        Returns:
            The visit.
        """
        total = float(LINES_PER_PAGE) if scattered else lines
        hit = 1.0 - (1.0 - writes) ** lines
        return cls(np.array([total]), np.array([lines / total]), writes, hit, scattered)

    @classmethod
    def mixed(cls, counts: Sequence[int], writes: float = 1.0, *, scattered: bool = False) -> Visit:
        """Make a visit that touches as many lines as one of the counts says, each equally likely.

        Args:
            counts: Numbers of lines.
            writes: Likelihood that a touched line is written.
            scattered: Whether they begin at any line; else at the page's first.

        Returns:
            The visit.
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
        """The same visit where what is read counts as written."""
        return replace(self, writes=1.0, hit=1.0)

    @property
    def reached(self) -> Figures:
        """Likelihood that a visit touches a page because of a class's lines, float64[classes]."""
        return np.ones(1) if self.scattered else self.share


@dataclass(frozen=True, slots=True)
class Sweep:
    """One page after the other, and round again.

    Attributes:
        pages: Pages of a whole round.
        visit: What each visit touches.
    """

    pages: float
    visit: Visit

    @property
    def size(self) -> float:
        """See `Pattern`."""
        return self.pages

    def written(self, visits: float) -> Written:
        """Compute what is written, as `Pattern` says.

        Args:
            visits: How many.

        Returns:
            One class.
        """
        return self._distinct(visits, self.visit)

    def touched(self, visits: float) -> Written:
        """Compute what is written or read, as `Pattern` says.

        Args:
            visits: How many.

        Returns:
            One class.
        """
        return self._distinct(visits, self.visit.reading_too)

    def _distinct(self, visits: float, visit: Visit) -> Written:
        if visits <= 0 or self.pages <= 0:
            return _figures(0.0, 0.0)
        reached, passes = min(visits, self.pages), max(visits / self.pages, 1.0)
        pages = reached * (1.0 - (1.0 - visit.hit) ** passes)
        each = 1.0 - (1.0 - visit.share * visit.writes) ** passes
        return _figures(pages, reached * float((visit.count * each).sum()))

    def written_back(self, visits: float, kept: float) -> Written:
        """Compute what a cache has given back: lines untouched for as long as it keeps one.

        Where it keeps them for whole rounds, those are lines that the visits of so many rounds did
        not touch again: none, if a visit touches the same ones each time.

        Args:
            visits: Visits that have written.
            kept: Visits that the cache reaches back.

        Returns:
            One class.
        """
        if kept < self.pages:
            return self.written(visits - kept)
        old = visits - kept
        if old <= 0 or math.isinf(kept):
            return _figures(0.0, 0.0)
        visit, passes = self.visit, max(old / self.pages, 1.0)
        written = 1.0 - (1.0 - visit.share * visit.writes) ** passes
        # One that was touched in time is kept for as long again, and so on.
        untouched = (1.0 - visit.share) ** (kept / self.pages)
        gone = written * (1.0 - (1.0 - untouched) ** max(old / kept, 1.0))
        pages = 1.0 - float(((1.0 - gone) ** visit.count).prod())
        reached = min(old, self.pages)
        return _figures(reached * pages, reached * float((visit.count * gone).sum()))


@dataclass(frozen=True, slots=True)
class Scatter:
    """Pages at random, in classes of equal likelihood.

    Attributes:
        count: float64[classes], pages of each class.
        share: float64[classes], the share of all visits that one page of the class has.
        visit: What each visit touches.
    """

    count: Figures
    share: Figures
    visit: Visit

    @property
    def size(self) -> float:
        """See `Pattern`."""
        return float(self.count.sum())

    def written(self, visits: float) -> Written:
        """Compute what is written, as `Pattern` says.

        Args:
            visits: How many.

        Returns:
            A figure for each class.
        """
        return self._distinct(visits, self.visit)

    def touched(self, visits: float) -> Written:
        """Compute what is written or read, as `Pattern` says.

        Args:
            visits: How many.

        Returns:
            A figure for each class.
        """
        return self._distinct(visits, self.visit.reading_too)

    def _distinct(self, visits: float, visit: Visit) -> Written:
        mean = max(visits, 0.0) * self.share  # expected visits of a page
        pages = -np.expm1(-mean * visit.hit)
        lines = -np.expm1(-np.outer(mean, visit.share * visit.writes)) @ visit.count
        return Written(self.count * pages, self.count * lines)

    def written_back(self, visits: float, kept: float) -> Written:
        """Compute what a cache has given back: lines untouched for as long as it keeps one.

        Che, Tung, Wang (2002): that time is about the same for all lines of a large LRU cache. A
        page counts as gone when the likeliest of its lines is: those of a visit go together.

        Args:
            visits: Visits that have written.
            kept: Visits that the cache reaches back.

        Returns:
            A figure for each class.
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
    """A curve through counted points: each list rises from 0.

    Attributes:
        visits: float64[points]; the others hold what there is after so many visits.
        pages: Distinct pages written.
        lines: Distinct lines written.
        touched_pages: Distinct pages written or read.
        touched_lines: Distinct lines written or read.
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
        """Look up what is written, as `Pattern` says.

        Args:
            visits: How many; beyond the last point nothing is added.

        Returns:
            One class.
        """
        return self._at(visits, self.pages, self.lines)

    def touched(self, visits: float) -> Written:
        """Look up what is written or read, as `Pattern` says.

        Args:
            visits: How many; beyond the last point nothing is added.

        Returns:
            One class.
        """
        return self._at(visits, self.touched_pages, self.touched_lines)

    def _at(self, visits: float, pages: Figures, lines: Figures) -> Written:
        return _figures(
            float(np.interp(visits, self.visits, pages)),
            float(np.interp(visits, self.visits, lines)),
        )

    def written_back(self, visits: float, kept: float) -> Written:
        """Look up what a cache has given back, as `Pattern` says.

        Args:
            visits: Visits that have written.
            kept: Visits that the cache reaches back.

        Returns:
            One class.
        """
        return self.written(0.0 if math.isinf(kept) else visits - kept)
