"""Workloads that visit one page after another and write or read `lines` lines of it.

They differ in the order of pages and in their defaults; the compiled kernel is one. A step is one
line; a line write adds an odd number to one of its words, so that content always changes and a
lost write is never mended by a later one.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, cast

import numpy as np
from numpy.typing import NDArray

from common.guest.cache import access, approach, approach_victim
from common.guest.control import STEPS, SUM, VcpuArrays
from common.guest.jit import inlined, kernel
from common.guest.native import signed
from common.guest.pace import even
from common.guest.quantum import begin_quantum, page_missing
from common.guest.rng import GOLDEN, mix
from common.guest.workloads.base import (
    CONTENT,
    FIRST_PAGE,
    OWN,
    PAGES,
    SEED,
    Key,
    Plan,
    Region,
    Workload,
    parse_extent,
    parse_flag,
    parse_visit_rate,
    visits_per_s,
    whole,
)
from common.units import LINES_PER_PAGE, PAGE_SIZE, parse_share

SEQUENTIAL: Final = 0
UNIFORM: Final = 1
TABLE: Final = 2  # an alias table of uint64[pages, 2]: threshold, (page << 32 | other page)

_ORDER: Final = OWN
_LINES: Final = OWN + 1
_SCATTER: Final = OWN + 2
_WRITE_BELOW: Final = OWN + 3
_AHEAD: Final = OWN + 4

_WRITE_BITS: Final = 23
_WRITE_MASK: Final = np.uint64(2**_WRITE_BITS - 1)
_ONE: Final = np.uint64(1)
_LOW32: Final = np.uint64(2**32 - 1)
_HALF: Final = np.uint64(32)
_LINE_SHIFT: Final = np.uint64(_WRITE_BITS)
_WORD_SHIFT: Final = np.uint64(_WRITE_BITS + 6)
_IN_LINE: Final = np.uint64(7)
_AHEAD_VISITS: Final = 4


@inlined
def _page_of(table: NDArray[np.uint64], order: int, h: np.uint64, visit: int, pages: int) -> int:
    """The page (within the working set) of a visit whose first step has the hash `h`."""
    if order == SEQUENTIAL:
        return signed(visit % pages)
    page = signed(((h >> _HALF) * np.uint64(pages)) >> _HALF)
    if order == UNIFORM:
        return page
    both = table[2 * page + 1]
    if mix(h) & _LOW32 < table[2 * page]:
        return signed(both >> _HALF)
    return signed(both & _LOW32)


@inlined
def _start_of(scatter: int, h: np.uint64, page: int) -> int:
    """The first line of a visit: the page's own, or another one each time."""
    if scatter != 0:
        return signed((h >> _LINE_SHIFT) & np.uint64(63))
    return signed(mix(np.uint64(page)) & np.uint64(63))


@inlined
def _part_of(m: VcpuArrays, order: int, scatter: int, seed: np.uint64, visit: int) -> int:
    """Which 64 bytes of memory a visit starts with."""
    h = mix(seed + np.uint64(visit * m.params[_LINES]))
    page = _page_of(m.table, order, h, visit, m.params[PAGES])
    return (signed(m.params[FIRST_PAGE] + page) << 6) + _start_of(scatter, h, page)


@kernel
def quantum(m: VcpuArrays, n: int) -> None:
    """`n` steps, or fewer if a page is missing."""
    p = m.params
    seed, lines, pages, order = np.uint64(p[SEED]), p[_LINES], p[PAGES], p[_ORDER]
    scatter, write_below, ahead = p[_SCATTER], np.uint64(p[_WRITE_BELOW]), p[_AHEAD]
    base = p[FIRST_PAGE] << 6
    total = m.state[SUM]
    step = signed(m.state[STEPS])
    end = step + n
    visit = step // lines
    k = step - visit * lines
    missing = False
    while step < end and not missing:
        h = mix(seed + np.uint64(step - k))
        page = _page_of(m.table, order, h, visit, pages)
        start = _start_of(scatter, h, page)
        if ahead != 0:
            approach(m, _part_of(m, order, scatter, seed, visit + 2 * ahead))
            approach_victim(m, _part_of(m, order, scatter, seed, visit + ahead))
        stop = min(lines, k + end - step)
        while k < stop:
            if k != 0:
                h = mix(seed + np.uint64(step))
            line = (start + k) & 63
            write = bool(h & _WRITE_MASK < write_below)
            at = access(m, base + (page << 6) + line, write)
            if at < 0:
                page_missing(m, -1 - at)
                missing = True
                break
            if scatter != 0:
                at += signed(h >> _WORD_SHIFT & _IN_LINE)
            else:
                at += (page + line) & 7
            if write:
                m.arena[np.uint64(at)] += (np.uint64(step) * GOLDEN) | _ONE
            else:
                total += m.arena[np.uint64(at)]
            step += 1
            k += 1
        if k == lines:
            k = 0
            visit += 1
    m.state[STEPS] = np.uint64(step)
    m.state[SUM] = total


@kernel
def run(m: VcpuArrays) -> None:
    """The life of a vCPU."""
    while True:
        n = begin_quantum(m)
        if n == 0:
            return
        quantum(m, n)


def visit_keys(working_set: str, rate: str, lines: int) -> dict[str, Key]:
    """The options that these workloads share, with a workload's own defaults."""
    return {
        "working-set": Key(working_set, parse_extent),
        "rate": Key(rate, parse_visit_rate),
        "lines": Key(str(lines), whole(1, LINES_PER_PAGE)),
        "scatter": Key("false", parse_flag),
        "write-share": Key("100%", parse_share),
        **CONTENT,
    }


class VisitWorkload(Workload):
    """A workload of this kind, but for its order of pages."""

    order: ClassVar[int]
    kernel = run

    def table(self, region: Region, pages: int) -> NDArray[np.uint64]:
        """For the order `TABLE`."""
        del region, pages
        return np.zeros(1, np.uint64)

    def plan(self, region: Region) -> Plan:
        """See `Workload.plan`."""
        options: dict[str, Any] = dict(self.options)
        pages = cast(int, options["working-set"].pages(region))
        lines = cast(int, options["lines"])
        # Prefetching pays only where most visits miss.
        touched = pages * (PAGE_SIZE if options["scatter"] else lines * 64)
        random = self.order != SEQUENTIAL and lines <= 4 and touched > 2 * region.cache
        return Plan(
            pages=pages,
            own=(
                self.order,
                lines,
                int(options["scatter"]),
                round(options["write-share"] * 2**_WRITE_BITS),
                _AHEAD_VISITS if random else 0,
            ),
            pace=even(visits_per_s(options["rate"], region) * lines, lines),
            table=self.table(region, pages),
        )
