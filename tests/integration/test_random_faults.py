"""Faults at random moments of every phase: nothing is lost, never two guests, each ends as it must.

Seeds are fixed. A covering sample by default, a thousand cases with PAGEFERRY_TEST_FULL=1, and as
many as you like by `scripts/random_faults`.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from tests.support.random_cases import BY_NAME, CELLS, FAULTS, HAVE, SHORT_S, STALL_S, Cell, case_of
from tests.support.random_verdicts import Verdict, judged
from tests.support.tiers import FULL
from tests.support.wires import Wires

MANY: Final = 1000
AT_ONCE: Final = 6  # a case waits for a time-out most of the time
TRIES: Final = 5  # a fault that came outside its phase says nothing: another seed is tried
APART: Final = 1000  # seeds of one try and the next


def covering() -> list[tuple[Cell, int]]:
    """Every second fault in each phase, the others in the next; strategies in turn.

    So each agent is killed, stopped and asked before the commit and after it, and both faults of
    the wire come there as well.
    """
    out = []
    for number, phase in enumerate(HAVE):
        strategies = HAVE[phase]
        for each, (fault, hit) in enumerate(FAULTS):
            if (number + each) % 2:
                continue
            strategy = strategies[(number + each) % len(strategies)]
            out.append((Cell(phase, strategy, fault, hit), 0))
    return out


def thousand() -> list[tuple[Cell, int]]:
    """Every cell, five times and more."""
    return [(CELLS[number % len(CELLS)], number // len(CELLS)) for number in range(MANY)]


CASES: Final = thousand() if FULL else covering()


@pytest.fixture(scope="module")
def wires() -> Iterator[Wires]:
    """Where the relays of all cases run."""
    running = Wires()
    yield running
    running.close()


def until_it_counts(cell: Cell, seed: int, folder: Path, wires: Wires) -> Verdict:
    """The first of some seeds whose fault came in its phase; any that failed."""
    for attempt in range(TRIES):
        own = folder / f"{str(cell).replace('/', '-')}-{seed}-{attempt}"
        own.mkdir()
        verdict = judged(case_of(cell, seed + attempt * APART), own, wires)
        if verdict.status in ("hit", "failed"):
            break
    return verdict


@pytest.mark.timeout(1800 if FULL else 240)
def test_nothing_is_lost(tmp_path: Path, wires: Wires) -> None:
    slowest_first = reversed(CASES)  # those of recoveries
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = [pool.submit(until_it_counts, *case, tmp_path, wires) for case in slowest_first]
        verdicts = [future.result() for future in futures]
    failed = [verdict.words for verdict in verdicts if verdict.status == "failed"]
    assert not failed, "\n".join(failed)
    never = [verdict.words for verdict in verdicts if verdict.status != "hit"]
    # On a machine that is busy with something else some may never hit; most must.
    assert len(never) <= len(CASES) // 8, "\n".join(never)


def test_there_are_no_more_cells_than_can_be_covered() -> None:
    assert len(CELLS) <= 200
    assert len(BY_NAME) == len(CELLS)
    sample = covering()
    agents = {(cell.phase, cell.fault) for cell in CELLS if cell.hit != "wire"}
    assert agents <= {(cell.phase, cell.fault) for cell, _ in sample}
    for phases in (list(HAVE)[:3], list(HAVE)[3:]):  # before the commit, and from it on
        assert {(cell.fault, cell.hit) for cell, _ in sample if cell.phase in phases} == {*FAULTS}
    assert {cell.strategy for cell, _ in sample} == {cell.strategy for cell in CELLS}
    assert {cell for cell, _ in thousand()} == set(CELLS)


@pytest.mark.parametrize("name", list(BY_NAME)[::7])
def test_a_seed_draws_the_same_case_again(name: str) -> None:
    cell = BY_NAME[name]
    cases = [case_of(cell, seed) for seed in range(30)]
    assert cases == [case_of(cell, seed) for seed in range(30)]
    assert len({case.at_s for case in cases}) == 30
    for case in cases:  # nothing lasts so long that both would be right
        assert not SHORT_S[1] < case.lasts_s < STALL_S + 0.5
