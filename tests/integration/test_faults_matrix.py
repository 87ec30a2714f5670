"""Every point x action x strategy: how it ends, its exit code, who runs the guest, and its content.

Agents are real processes. Who runs is what a witness saw, and content is compared with a guest that
never moved. The whole takes ten minutes (PAGEFERRY_TEST_FULL=1), a sample of it runs by default.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from pageferry.common.inject import ACTIONS, POINTS, Action, parse_injection
from tests.support.fault_rules import (
    DEST,
    DIED,
    IN_DOUBT,
    LOST,
    MOVED,
    STAYS,
    STRATEGIES,
    Case,
    Ending,
    cases_of,
    expected,
)
from tests.support.faults import Seen, run
from tests.support.tiers import FULL

AT_ONCE: Final = 3  # most cases wait for a timeout most of the time

WHOLE: Final = [case for strategy in STRATEGIES for case in cases_of(strategy)]


@functools.cache
def kind_of(case: Case) -> tuple[str, str]:
    """The point, as the registry has it, and the action."""
    last = case.last
    (pattern,) = (p.pattern for p in POINTS if p.agent == last.agent and p.matches(last.point))
    return f"{last.agent}/{pattern}", last.action


def covering() -> list[Case]:
    """Each point once; actions and strategies in turn, so that each of them comes up."""
    out: list[Case] = []
    used: dict[str, int] = {}

    def weight(case: Case) -> tuple[int, int]:
        how = case.faults[-1].partition(":")[2]
        return used.get(how, 0) + used.get(case.strategy, 0), used.get(how, 0)

    for point in POINTS:
        name = f"{point.agent}/{point.pattern}"
        case = min((case for case in WHOLE if kind_of(case)[0] == name), key=weight)
        for word in (case.faults[-1].partition(":")[2], case.strategy):
            used[word] = used.get(word, 0) + 1
        out.append(case)
    return out


# Several things at once, with how it must end.
TOGETHER: Final[list[tuple[Case, set[Ending]]]] = [
    # Both ends crash about the commit: nobody runs it, and nothing is left.
    (Case("pre-copy", ("commit-sent:kill", "commit-received:kill")), {DIED}),
    (Case("stop-and-copy", ("resumed-there:kill", "finished:kill")), {DIED}),
    # A destination that restarts has no such session, and says so.
    (Case("pre-copy", ("commit-received:kill",), restart=True), {STAYS}),
    (Case("stop-and-copy", ("resumed:kill",), restart=True), {STAYS}),
    (Case("post-copy", ("before-resume:kill",), restart=True), {STAYS}),
    (Case("pre-copy", ("commit-sent:cut", "asked:kill"), restart=True), {STAYS}),
    (Case("post-copy", ("dest/postcopy-50%:kill",), restart=True), {LOST}),
    # Nobody could be asked for as long as was allowed. Later on the destination runs it after all,
    # or finds the question that was put meanwhile first, and then never will.
    (
        Case("pre-copy", ("commit-received:stall:12s",)),
        {Ending(IN_DOUBT.exit_code, DEST), IN_DOUBT},
    ),
    # Cut and cut again.
    (Case("post-copy", ("source/postcopy-20%:cut", "dest/postcopy-70%:cut")), {MOVED}),
    (Case("hybrid", ("source/postcopy-10%:cut", "source/recovering:cut:20")), {MOVED}),
    (Case("lazy-copy", ("resumed-there:cut", "dest/recovering:cut")), {MOVED}),
]

# Of each kind of ending one, where the source has copied and where the destination fetches.
FEW: Final = [case for number, case in enumerate(TOGETHER) if number in (0, 2, 4, 6, 7, 8)]

SINGLE: Final = WHOLE if FULL else covering()
CASES: Final = [(case, expected(case)) for case in SINGLE] + (TOGETHER if FULL else FEW)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Seen]]]:
    """All cases, a few at a time, in the order of the tests."""
    root: Path = tmp_path_factory.mktemp("faults")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = {}
        for number, (case, _) in enumerate(CASES):
            folder = root / str(number)
            folder.mkdir()
            futures[str(case)] = pool.submit(run, case, folder)
        yield futures
        for future in futures.values():
            future.cancel()


@pytest.mark.timeout(300)  # it may wait for those before it
@pytest.mark.parametrize(("case", "endings"), CASES, ids=[str(case) for case, _ in CASES])
def test_ends_as_it_must(
    case: Case, endings: set[Ending], running: dict[str, Future[Seen]]
) -> None:
    seen = running[str(case)].result()
    assert seen.problems == []
    assert seen.ending in endings, (seen.report and seen.report.error, seen.turns)
    if seen.exit_code == 0:
        assert seen.report is not None
        assert seen.report.verified is True


def test_the_sample_has_every_point_action_and_strategy() -> None:
    assert {str(endings) for _, endings in FEW} == {str(endings) for _, endings in TOGETHER}
    sample = covering()
    assert {kind_of(case)[0] for case in sample} == {f"{p.agent}/{p.pattern}" for p in POINTS}
    assert {kind_of(case)[1] for case in sample} == set(Action)
    assert {case.strategy for case in sample} == set(STRATEGIES)
    assert {kind_of(case) for case in WHOLE} == {
        (f"{point.agent}/{point.pattern}", action)
        for point in POINTS
        for action, each in ACTIONS.items()
        if each.only in (None, point.agent)
    }
    assert all(str(parse_injection(fault)) for case in WHOLE for fault in case.faults)
