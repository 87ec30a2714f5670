"""Visiting one page after another, to write or read `lines` lines of it: the compiled kernel.

A step is one line; a line write adds an odd number to one of its words, so that content always
changes and a later write never hides that one was lost.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.guest.cache import access, approach, approach_victim
from pageferry.common.guest.control import STEPS, SUM, VcpuArrays
from pageferry.common.guest.jit import inlined, kernel
from pageferry.common.guest.native import signed
from pageferry.common.guest.quantum import begin_quantum, page_missing
from pageferry.common.guest.rng import GOLDEN, mix
from pageferry.common.guest.workloads.base import FIRST_PAGE, OWN, PAGES, SEED

SEQUENTIAL: Final = 0
UNIFORM: Final = 1
TABLE: Final = 2  # an alias table of uint64[pages, 2]: threshold, (page << 32 | other page)

ORDER: Final = OWN
LINES: Final = OWN + 1  # of a visit; of a whole cycle where visits are mixed
SCATTER: Final = OWN + 2
WRITE_BELOW: Final = OWN + 3
AHEAD: Final = OWN + 4
MIXED: Final = OWN + 5  # where in the table the counts of a mixture begin

WRITE_BITS: Final = 23
WRITE_MASK: Final = np.uint64(2**WRITE_BITS - 1)
_ONE: Final = np.uint64(1)
_LOW32: Final = np.uint64(2**32 - 1)
_HALF: Final = np.uint64(32)
_LINE_SHIFT: Final = np.uint64(WRITE_BITS)
WORD_SHIFT: Final = np.uint64(WRITE_BITS + 6)
IN_LINE: Final = np.uint64(7)
AHEAD_VISITS: Final = 4


@inlined
def page_of(table: NDArray[np.uint64], order: int, h: np.uint64, visit: int, pages: int) -> int:
    """Choose the page of a visit.

    Args:
        table: The alias table of order `TABLE`, of at least 2 * pages words; not read for the
            others.
        order: `SEQUENTIAL`, `UNIFORM` or `TABLE`.
        h: Hash of the visit's first step.
        visit: The visit's number, which order `SEQUENTIAL` follows.
        pages: Pages of the working set.

    Returns:
        The page's number within the working set.
    """
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
def start_of(scatter: int, h: np.uint64, page: int) -> int:
    """Choose the first line of a visit: always the same one of a page, or another one each time.

    Args:
        scatter: 0: the page determines the line; else the hash does.
        h: Hash of the visit's first step.
        page: The page's number within the working set.

    Returns:
        The line's number within the page, 0 to 63.
    """
    if scatter != 0:
        return signed((h >> _LINE_SHIFT) & np.uint64(63))
    return signed(mix(np.uint64(page)) & np.uint64(63))


@inlined
def _part_of(m: VcpuArrays, order: int, scatter: int, seed: np.uint64, visit: int) -> int:
    """Return which 64 bytes of memory a visit starts with."""
    h = mix(seed + np.uint64(visit * m.params[LINES]))
    page = page_of(m.table, order, h, visit, m.params[PAGES])
    return (signed(m.params[FIRST_PAGE] + page) << 6) + start_of(scatter, h, page)


@kernel
def quantum(m: VcpuArrays, n: int) -> None:
    """Run `n` steps, or fewer if a page is missing.

    Args:
        m: What the vCPU works on; its `state` counts the steps done.
        n: As `begin_quantum` returned it, at least 1.
    """
    p = m.params
    seed, lines, pages, order = np.uint64(p[SEED]), p[LINES], p[PAGES], p[ORDER]
    scatter, write_below, ahead = p[SCATTER], np.uint64(p[WRITE_BELOW]), p[AHEAD]
    base = p[FIRST_PAGE] << 6
    total = m.state[SUM]
    step = signed(m.state[STEPS])
    end = step + n
    visit = step // lines
    k = step - visit * lines
    missing = False
    while step < end and not missing:
        h = mix(seed + np.uint64(step - k))
        page = page_of(m.table, order, h, visit, pages)
        start = start_of(scatter, h, page)
        if ahead != 0:
            approach(m, _part_of(m, order, scatter, seed, visit + 2 * ahead))
            approach_victim(m, _part_of(m, order, scatter, seed, visit + ahead))
        stop = min(lines, k + end - step)
        while k < stop:
            if k != 0:
                h = mix(seed + np.uint64(step))
            line = (start + k) & 63
            write = bool(h & WRITE_MASK < write_below)
            at = access(m, base + (page << 6) + line, write)
            if at < 0:
                page_missing(m, -1 - at)
                missing = True
                break
            if scatter != 0:
                at += signed(h >> WORD_SHIFT & IN_LINE)
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
    """Run quanta until the vCPU is told to stop.

    Args:
        m: What the vCPU works on.
    """
    while True:
        n = begin_quantum(m)
        if n == 0:
            return
        quantum(m, n)
