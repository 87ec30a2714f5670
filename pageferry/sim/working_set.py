"""The guest's working set: what becomes stale between two moments, and where it is then."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np

from pageferry.common.strategy.conditions import Stale
from pageferry.common.units import LINE_SIZE, LINES_PER_PAGE, PAGE_SIZE
from pageferry.common.wire.extents import EXTENT
from pageferry.common.wire.frames import LINES_OF, MOST_LINES
from pageferry.sim.flow import Steady, VisitFlow
from pageferry.sim.pattern import Figures, Pattern, Sweep, Written

PAGE_BYTES: Final = PAGE_SIZE + EXTENT.itemsize  # of a page on the wire
_HALVINGS: Final = 56  # of 10^9 seconds; half as many of the time that a guest has run for
_KEPT_STEPS: Final = 64  # of the time that a line is kept: where its end's slope is taken
_LONGEST_S: Final = 1e9  # a line that is kept for so long is kept


@dataclass(frozen=True, slots=True)
class WorkingSetPart:
    """Some pages of a vCPU's region, when they are visited, and how.

    Attributes:
        flow: When.
        pattern: Which pages and lines.
        steps: Steps of the workload in one visit, a line each.
        within: Whether its pages are some of those of the part before.
    """

    flow: VisitFlow
    pattern: Pattern
    steps: float
    within: bool = False


class CachedWrites(NamedTuple):
    """What a guest did to its cache.

    Attributes:
        accesses: Reads and writes, each of a line.
        dirtied: How often a clean line became dirty.
        held: Lines that are dirty in the end; the others were written back.
    """

    accesses: float
    dirtied: float
    held: float


@dataclass(frozen=True)
class WorkingSet:
    """What a guest writes, over time. Times are seconds since it began to run.

    Attributes:
        parts: Those of one vCPU.
        vcpus: How many vCPUs have the same.
        cache: Lines of one vCPU's cache; 0 is none.
        by_line: Whether pages travel as their changed lines where that is shorter.
    """

    parts: Sequence[WorkingSetPart]
    vcpus: int
    cache: float
    by_line: bool

    @property
    def steps_per_s(self) -> float:
        """Steps a second of all vCPUs, in the long run."""
        return self.vcpus * sum(part.flow.mean * part.steps for part in self.parts)

    @property
    def busy(self) -> float:
        """Share of its time that a vCPU needs; 1 is flat out."""
        return min(sum(part.flow.busy for part in self.parts), 1.0)

    @property
    def pages(self) -> float:
        """Pages that are ever touched, of all vCPUs."""
        own = [part for part in self.parts if not part.within]
        return self.vcpus * sum(part.pattern.size for part in own)

    @property
    def in_order(self) -> bool:
        """Whether it goes through its pages one after the other."""
        return isinstance(self.parts[0].pattern, Sweep)

    def steps(self, begin_s: float, end_s: float) -> float:
        """Count the steps of all vCPUs.

        Args:
            begin_s: From when.
            end_s: Until when.

        Returns:
            How many, not always a whole number.
        """
        done = [part.steps * _visits(part, begin_s, end_s) for part in self.parts]
        return self.vcpus * sum(done)

    def stale(self, begin_s: float, end_s: float, *, held: bool = False) -> Stale:
        """Compute what is written in between, and where it is at the end.

        Args:
            begin_s: From when; the cache was drained then.
            end_s: Until when.
            held: Whether the cache holds its write-backs.

        Returns:
            Pages of all vCPUs, their cost on the wire, and how much of it memory and cache hold.
        """
        union = self._written(begin_s, end_s)
        pages, size = self._cost(union)
        if size == 0:
            return Stale(0.0, 0.0)
        written = self.vcpus * _total(union)
        if not self.cache:
            return Stale(pages, size, lines=written)
        kept_s = self.kept_s(end_s, held=held)
        cached = self._written(max(begin_s, end_s - kept_s), end_s)
        returned = self._sum([_written_back(part, begin_s, end_s, kept_s) for part in self.parts])
        lines = min(self.vcpus * _total(cached), self.vcpus * self.cache)
        return Stale(
            pages,
            size,
            min(self._cost(returned)[1] / size, 1.0),
            min(self._cost(cached)[1] / size, 1.0),
            lines,
            written,
        )

    def cached_writes(self, begin_s: float, end_s: float) -> CachedWrites:
        """Compute how often a line of the cache became dirty, in a stretch that began drained.

        Until a line is evicted, each becomes dirty once; from then on as fast as lines become dirty
        that have not been written for as long as the cache keeps one.

        Args:
            begin_s: From when.
            end_s: Until when.

        Returns:
            Of all vCPUs; nothing without a cache.
        """
        kept_s = self.kept_s(end_s)
        if not self.cache or end_s <= begin_s:
            return CachedWrites(0.0, 0.0, 0.0)
        until_s = min(end_s, begin_s + kept_s)
        dirtied = self._lines_written(begin_s, until_s)
        if end_s > until_s:
            step_s = kept_s / _KEPT_STEPS
            fresh = dirtied - self._lines_written(begin_s, until_s - step_s)
            dirtied += fresh / step_s * (end_s - until_s)
        held = min(self._lines_written(max(begin_s, end_s - kept_s), end_s), self.cache)
        accesses = self.steps(begin_s, end_s)
        return CachedWrites(accesses, self.vcpus * dirtied, self.vcpus * min(held, dirtied))

    def _lines_written(self, begin_s: float, end_s: float) -> float:
        return _total(self._written(begin_s, end_s))

    def touched(self, begin_s: float, end_s: float) -> float:
        """Count the pages that are visited in between, each once.

        Args:
            begin_s: From when.
            end_s: Until when.

        Returns:
            How many, of all vCPUs.
        """
        parts = [part.pattern.touched(_visits(part, begin_s, end_s)) for part in self.parts]
        return self.vcpus * sum(float(part.pages.sum()) for part in self._sum(parts))

    def kept_s(self, now_s: float, *, held: bool = False) -> float:
        """Compute how long the cache keeps a line that nobody touches, until enough others came.

        Args:
            now_s: Up to when; it depends on what was touched before.
            held: Whether the cache holds its write-backs: then what is only read has to go first,
                and a dirty line is kept until enough others have become dirty.

        Returns:
            Seconds; 0 without a cache, infinite where all lines fit.
        """
        if not self.cache:
            return 0.0
        if all(isinstance(part.flow, Steady) for part in self.parts):
            return self._always_held_s if held else self._always_kept_s
        # Each round asks for its end more than once, and the search is dear.
        asked, answer = self._last_kept.get(held, (math.nan, 0.0))
        if asked != now_s:
            answer = self._until_full(now_s, now_s, _HALVINGS // 2, held=held)
            self._last_kept[held] = now_s, answer
        return answer

    @cached_property
    def _last_kept(self) -> dict[bool, tuple[float, float]]:
        """By whether write-backs are held: when was last asked about, and the answer."""
        return {}

    @cached_property
    def _always_kept_s(self) -> float:
        return self._until_full(_LONGEST_S, _LONGEST_S, _HALVINGS, held=False)

    @cached_property
    def _always_held_s(self) -> float:
        return self._until_full(_LONGEST_S, _LONGEST_S, _HALVINGS, held=True)

    def _until_full(self, now_s: float, most_s: float, halvings: int, *, held: bool) -> float:
        """Search how far back from `now_s` as many lines were touched as the cache holds."""
        counted = self._lines_written if held else self._lines_touched
        if counted(now_s - most_s, now_s) <= self.cache:
            return math.inf
        low, high = 0.0, most_s
        for _ in range(halvings):
            middle = (low + high) / 2 if low else high / 64
            if counted(now_s - middle, now_s) > self.cache:
                high = middle
            else:
                low = middle
        return high

    def _lines_touched(self, begin_s: float, end_s: float) -> float:
        parts = [part.pattern.touched(_visits(part, begin_s, end_s)) for part in self.parts]
        return _total(self._sum(parts))

    def _written(self, begin_s: float, end_s: float) -> list[Written]:
        return self._sum(
            [part.pattern.written(_visits(part, begin_s, end_s)) for part in self.parts]
        )

    def _sum(self, parts: Sequence[Written]) -> list[Written]:
        """Put the parts side by side; one within another counts where that one has not been."""
        out: list[Written] = []
        for part, written in zip(self.parts, parts, strict=True):
            share = 1.0
            if part.within:
                around = out[-1].pages.sum() / self.parts[len(out) - 1].pattern.size
                share = 1.0 - min(float(around), 1.0)
            out.append(Written(written.pages * share, written.lines * share))
        return out

    def _cost(self, parts: Sequence[Written]) -> tuple[float, float]:
        """Add up pages, and what they cost on the wire, of all vCPUs."""
        pages = sum(float(part.pages.sum()) for part in parts)
        size = sum(float(_bytes(part, self.by_line).sum()) for part in parts)
        return self.vcpus * pages, self.vcpus * size


def _visits(part: WorkingSetPart, begin_s: float, end_s: float) -> float:
    return part.flow.visits(end_s) - part.flow.visits(begin_s)


def _written_back(part: WorkingSetPart, begin_s: float, end_s: float, kept_s: float) -> Written:
    kept = math.inf if math.isinf(kept_s) else _visits(part, end_s - kept_s, end_s)
    return part.pattern.written_back(_visits(part, begin_s, end_s), kept)


def _total(parts: Sequence[Written]) -> float:
    return sum(float(part.lines.sum()) for part in parts)


def _bytes(written: Written, by_line: bool) -> Figures:
    """Compute the bytes on the wire of pages that have been sent before."""
    whole = written.pages * PAGE_BYTES
    if not by_line:
        return whole
    by_lines = written.pages * LINES_OF.itemsize + written.lines * LINE_SIZE
    few = written.lines <= written.pages * min(MOST_LINES, LINES_PER_PAGE)
    return np.where(few, np.minimum(by_lines, whole), whole)
