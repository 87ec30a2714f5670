"""The same visits where each writes a different number of lines: as many as real guests change.

A cycle of 256 visits contains each count of the mixture as often as it was measured, in an order
that the cycle's number and the seed determine. So every cycle has the same number of steps, and a
step's number says which visit it belongs to. Which page is visited does not depend on the count. It
is a separate kernel so that visits that are all alike pay nothing for this.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.guest.cache import access
from pageferry.common.guest.control import STEPS, SUM, VcpuArrays
from pageferry.common.guest.jit import inlined, kernel
from pageferry.common.guest.native import signed
from pageferry.common.guest.quantum import begin_quantum, page_missing
from pageferry.common.guest.rng import GOLDEN, mix
from pageferry.common.guest.seeds import derive
from pageferry.common.guest.workloads.base import FIRST_PAGE, PAGES, SEED
from pageferry.common.guest.workloads.visits import (
    IN_LINE,
    LINES,
    MIXED,
    ORDER,
    SCATTER,
    WORD_SHIFT,
    WRITE_BELOW,
    WRITE_MASK,
    page_of,
    start_of,
)
from pageferry.common.workload.mixes import VISITS, Mix

_CYCLE_BITS: Final = VISITS.bit_length() - 1
_WITHIN: Final = np.uint64(VISITS - 1)
_ONE: Final = np.uint64(1)
_OFFSET: Final = np.uint64(_CYCLE_BITS)
_APART: Final = np.uint64(0xD1B54A32D192ED03)  # the cycles' hashes are none of the visits'
_SHUFFLE: Final = 7  # any seed: neighbours of the table are not of a kind


def counts_of(mixture: Mix) -> NDArray[np.uint64]:
    """Lay out the line counts of a cycle's visits, shuffled, in the same order everywhere.

    Args:
        mixture: How many lines real guests change.

    Returns:
        uint64[VISITS]: lines of each visit.
    """
    order = sorted(range(VISITS), key=lambda at: derive(_SHUFFLE, at))
    return np.array([mixture.lines[at] for at in order], np.uint64)


@inlined
def _lines_of(m: VcpuArrays, seed: np.uint64, visit: int) -> int:
    """Return how many lines a visit writes: its cycle walks the table in odd strides."""
    h = mix((seed ^ _APART) + np.uint64(visit >> _CYCLE_BITS))
    within = (np.uint64(visit) * (h | _ONE) + (h >> _OFFSET)) & _WITHIN
    return signed(m.table[np.uint64(m.params[MIXED]) + within])


@kernel
def _visit_at(m: VcpuArrays, seed: np.uint64, step: int) -> tuple[int, int]:
    """Find the visit that a step belongs to, and the step's number within it."""
    cycle = step // m.params[LINES]
    visit = cycle << _CYCLE_BITS
    k = step - cycle * m.params[LINES]
    lines = _lines_of(m, seed, visit)
    while k >= lines:
        k -= lines
        visit += 1
        lines = _lines_of(m, seed, visit)
    return signed(visit), signed(k)


@kernel
def quantum(m: VcpuArrays, n: int) -> None:
    """Run `n` steps, or fewer if a page is missing.

    Args:
        m: What the vCPU works on; its `state` counts the steps done.
        n: As `begin_quantum` returned it, at least 1.
    """
    p = m.params
    seed, pages, order, scatter = np.uint64(p[SEED]), p[PAGES], p[ORDER], p[SCATTER]
    write_below, base = np.uint64(p[WRITE_BELOW]), p[FIRST_PAGE] << 6
    total = m.state[SUM]
    step = signed(m.state[STEPS])
    end = step + n
    visit, k = _visit_at(m, seed, step)
    lines = _lines_of(m, seed, visit)
    missing = False
    while step < end and not missing:
        first = seed + np.uint64(visit << 6)
        h = mix(first)
        page = page_of(m.table, order, h, visit, pages)
        start = start_of(scatter, h, page)
        stop = min(lines, k + end - step)
        while k < stop:
            h = mix(first + np.uint64(k))
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
            lines = _lines_of(m, seed, visit)
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
