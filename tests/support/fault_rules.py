"""The cases of the matrix of failures, and how each must end.

`expected` is a table of rules made from the protocol alone: where the commit is, who has a copy
that is whole, and who can still be reached. Nothing in it was copied from what a run gave.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pageferry.common.config.model import MigrationConfig
from pageferry.common.inject import Action, Injection, parse_injection

STALL_S: Final = 2.0  # silence that either end takes for death
RECOVER_S: Final = 5.0
SHORT, LONG = "stall:300ms", "stall:4s"

GUEST: Final = {
    "memory": 2**24,
    "workload": "uniform:working-set=2MiB,rate=20MB/s,scatter=true",
    "cache": 2**18,
    "warmup": 0.05,
    "run_after": 0.1,
    "max_bandwidth": 1e8,
    "stall_timeout": STALL_S,
    "recover_timeout": RECOVER_S,
}
# Thresholds are such that each goes the same way every time.
STRATEGIES: Final[dict[str, dict[str, Any]]] = {
    "stop-and-copy": {},
    "pre-copy": {"downtime_limit": 10.0},  # one round of everything, then it fits
    "three-path": {"low": 0.0, "high": 1.0, "max_rounds": 1, "path3": "stop-and-copy"},
    "post-copy": {},
    "lazy-copy": {"run_after": 0.5},  # long enough to ask for some pages on a busy machine
    "hybrid": {"postcopy_after": "rounds=1", "downtime_limit": 1e-6},  # it never fits
}
POSTCOPY: Final = ("post-copy", "lazy-copy", "hybrid")
# Whether bulk frames are checked on arrival. Until then a flipped bit is found by the replay, and
# not at all where the page was sent again; with it, before the hand-over, or mended after it.
CHECKSUM: Final = "checksum" in MigrationConfig.model_fields

SOURCE, DEST, NOBODY = "source", "dest", "nobody"
KILLED: Final = -9


@dataclass(frozen=True)
class Ending:
    """exit_code: of the source; runs: who runs the guest in the end (or last ran it, whole)."""

    exit_code: int
    runs: str


STAYS: Final = Ending(1, SOURCE)
NEVER_BEGAN: Final = Ending(1, NOBODY)
MOVED: Final = Ending(0, DEST)
UNVERIFIED: Final = Ending(3, DEST)
LOST: Final = Ending(4, NOBODY)
IN_DOUBT: Final = Ending(4, NOBODY)
DIED: Final = Ending(KILLED, NOBODY)
OUTLIVED: Final = Ending(KILLED, DEST)


@dataclass(frozen=True)
class Case:
    """What is injected where; restart: a destination that died is started again, on its port."""

    strategy: str
    faults: tuple[str, ...]
    restart: bool = False

    @property
    def last(self) -> Injection:
        """The fault that decides."""
        return parse_injection(self.faults[-1])

    @property
    def config(self) -> MigrationConfig:
        ours = tuple(f for f in self.faults if parse_injection(f).agent == "source")
        values = GUEST | STRATEGIES[self.strategy]
        return MigrationConfig.model_validate(values | {"strategy": self.strategy, "inject": ours})

    def __str__(self) -> str:
        return f"{self.strategy}-{'+'.join(self.faults)}{'-restart' * self.restart}"


# -- which points there are -----------------------------------------------------------------------

_ROUNDS: Final = ("pre-copy", "three-path", "hybrid")
_HALF: Final = {"post-copy": "postcopy-50%", "hybrid": "postcopy-50%", "lazy-copy": "postcopy-1%"}


def cases_of(strategy: str) -> Iterator[Case]:
    """Every point that this strategy comes to, with every action that its agent can do."""
    after = strategy in POSTCOPY
    source = ["connected", "set-up"]
    source += ["after-round-1"] if strategy in _ROUNDS else []
    source += ["before-pause", "paused", "before-commit", "commit-sent", "resumed-there"]
    source += [f"source/{_HALF[strategy]}", "source/recovering"] if after else []
    source += ["before-bye", "verifying"]
    dest = ["hello", "setup-received", "ready"]
    dest += ["round-1-received"] if strategy in (*_ROUNDS, "stop-and-copy") else []
    dest += ["commit-received", "asked", "before-resume", "resumed"]
    dest += [f"dest/{_HALF[strategy]}", "dest/recovering"] if after else []
    dest += ["before-complete"] if strategy in ("post-copy", "hybrid") else []
    dest += ["finished"]
    for points, more in ((source, ["corrupt"]), (dest, [])):
        for point in points:
            for action in ("kill", SHORT, LONG, "cut", "cut:10", "slow:30MB/s", *more):
                yield Case(strategy, (*_leading_to(point, strategy), f"{point}:{action}"))


def _leading_to(point: str, strategy: str) -> tuple[str, ...]:
    """What has to go wrong before there is such a step."""
    if point == "asked":
        return ("commit-sent:cut",)
    if point.endswith("recovering"):
        return (f"source/{_HALF[strategy]}:cut",)
    return ()


# -- how it must end ------------------------------------------------------------------------------

_NOT_BOOTED: Final = ("connected", "hello", "setup-received", "ready")
_BEFORE_COMMIT: Final = ("set-up", "after-round-1", "before-pause", "paused", "before-commit")
_RESULT_IS_THERE: Final = ("before-bye", "verifying")


def expected(case: Case) -> set[Ending]:
    """All endings that the rules allow; more than one only where two things race."""
    fault = case.last
    if fault.action is Action.SLOW or (fault.action, fault.amount) == (Action.STALL, 0.3):
        # Nobody takes slowness for death. Where a cut led here, it has an ending of its own.
        return _of_the_cut_before(case) if len(case.faults) > 1 else {MOVED}
    if fault.action is Action.CORRUPT:
        return _corrupted(case)
    if fault.action is Action.KILL:
        return _source_dies(case) if fault.agent == "source" else _dest_dies(case)
    return _source_fails(case) if fault.agent == "source" else _dest_fails(case)


def _of_the_cut_before(case: Case) -> set[Ending]:
    return expected(Case(case.strategy, case.faults[:-1]))


def _unheard(case: Case) -> set[Ending]:
    """The guest moved, and the connection broke: post-copy comes back for its pages.

    Otherwise nothing more is owed, and the result is what is lost.
    """
    return {MOVED} if case.strategy in POSTCOPY else {UNVERIFIED}


def _undecided(case: Case) -> set[Ending]:
    """Broken while the commit is on its way or not acted on yet: a question may come before it."""
    return {STAYS} | _unheard(case)


def _source_dies(case: Case) -> set[Ending]:
    point = case.last.point
    if point in (*_NOT_BOOTED, *_BEFORE_COMMIT):
        return {DIED}
    if point in _RESULT_IS_THERE:
        return {OUTLIVED}
    if case.strategy in POSTCOPY:
        # Pages died with the source. A lazy copy that touches none of them does not notice.
        return {DIED, OUTLIVED} if case.strategy == "lazy-copy" else {DIED}
    # A process that dies with unread input resets its connection: the commit may be lost.
    return {OUTLIVED, DIED} if point == "commit-sent" else {OUTLIVED}


def _source_fails(case: Case) -> set[Ending]:
    fault, point = case.last, case.last.point
    if point in _NOT_BOOTED:
        return {NEVER_BEGAN}
    if point in _BEFORE_COMMIT:
        return {STAYS}
    if point in _RESULT_IS_THERE:
        return {MOVED}
    if point == "commit-sent" and fault.action is Action.CUT and fault.amount is None:
        return _undecided(case)
    if fault.action is Action.STALL:
        # What the destination said while nobody listened may still be read.
        return {MOVED} | _unheard(case)
    return _unheard(case)


def _last_round_received(case: Case) -> bool:
    """The round after which only the commit is missing, which may be on its way."""
    return case.strategy == "stop-and-copy" and case.last.point == "round-1-received"


def _dest_dies(case: Case) -> set[Ending]:
    point = case.last.point
    if point in _NOT_BOOTED:
        return {NEVER_BEGAN}
    if _last_round_received(case):
        return {STAYS, IN_DOUBT}
    if point == "round-1-received":
        return {STAYS}
    if point == "finished" and case.strategy != "lazy-copy":
        return {Ending(3, NOBODY)}  # it had moved; what ran it is gone
    return {LOST}


def _dest_fails(case: Case) -> set[Ending]:
    fault, point = case.last, case.last.point
    if point in _NOT_BOOTED:
        return {NEVER_BEGAN}
    if point == "round-1-received" and (
        fault.action is Action.CUT or not _last_round_received(case)
    ):
        return {STAYS}  # it could not say that the round is here, and gave up
    if point in ("round-1-received", "commit-received", "asked"):
        return _undecided(case)
    if point == "finished" and case.strategy != "lazy-copy":
        return {UNVERIFIED}
    return _unheard(case)


def _corrupted(case: Case) -> set[Ending]:
    """A bit of the next pages on a bulk connection, if any follow."""
    point, strategy = case.last.point, case.strategy
    pushes = strategy in ("post-copy", "hybrid")
    late = point in ("commit-sent", "resumed-there", "recovering") or point.startswith("postcopy")
    after = pushes and (late or point == "before-commit")
    if strategy == "post-copy":
        after |= point in ("connected", *_BEFORE_COMMIT)
    if strategy == "hybrid":
        after |= point in ("after-round-1", "before-pause", "paused")
    before = strategy not in ("post-copy", "lazy-copy") and (
        point in ("connected", *_BEFORE_COMMIT) and point != "before-commit" and not after
    )
    if not before and not after:
        return _of_the_cut_before(case) if len(case.faults) > 1 else {MOVED}
    if CHECKSUM:
        return {STAYS} if before else {MOVED}
    return {UNVERIFIED, MOVED}
