"""How a case of random faults may end.

`allowed` is made from the protocol alone, as `fault_rules` is: where the commit is, who has a copy
that is whole, and who can still be reached. More than one ending only where two things race; what
the logs say then decides between them (`contradictions`).
"""

from __future__ import annotations

import math
from typing import Final

from tests.support.fault_rules import (
    DEST,
    DIED,
    IN_DOUBT,
    KILLED,
    LOST,
    MOVED,
    NEVER_BEGAN,
    NOBODY,
    OUTLIVED,
    SOURCE,
    STAYS,
    UNVERIFIED,
    Ending,
)
from tests.support.random_cases import COPYING, Case
from tests.support.random_faults import Seen
from tests.support.random_logs import EVER

CANCELLED: Final = 130
AROUND_S: Final = 0.9  # of an outage this close to its limit either may be
_NO_RESULT: Final = Ending(3, NOBODY)  # it moved, and the destination died with it
_NOT_HEARD: Final = Ending(4, DEST)  # its source could not hear that it lacks nothing there
_BEFORE_COMMIT: Final = ("rounds", "stop")


def allowed(case: Case, out_s: float, *, committed: bool = False) -> set[Ending]:
    """All endings that the rules allow.

    out_s: how long a recovery's outage lasts, by the fault. committed: whether the source sent its
    commit all the same: the last pages of a small guest fit what the system keeps for who stands
    still, and so does the commit after them.
    """
    cell = case.cell
    if cell.fault in ("stop", "silence") and not case.long:
        return {MOVED}  # nobody takes slowness for death
    match cell.fault, cell.hit:
        case "kill", "source":
            return _source_dies(case)
        case "kill", _:
            return _dest_dies(case)
        case "ask", "source":
            return _source_is_asked(case)
        case "ask", _:
            return _dest_is_asked(case)
        case _:
            return _broken(case, out_s, committed=committed)


def _source_dies(case: Case) -> set[Ending]:
    phase = case.cell.phase
    if phase in ("set-up", *_BEFORE_COMMIT):
        return {DIED}
    if phase == "hand-over" and case.cell.strategy in ("post-copy", "hybrid"):
        return {DIED}  # its pages died with it
    return {DIED, OUTLIVED}


def _before_commit(case: Case) -> set[Ending] | None:
    """Where the destination or the way to it fails, its guest stays; None: it may have moved."""
    if case.cell.phase == "set-up":
        return {NEVER_BEGAN}
    return {STAYS} if case.cell.phase in _BEFORE_COMMIT else None


def _dest_dies(case: Case) -> set[Ending]:
    return _before_commit(case) or {LOST, _NO_RESULT}


def _source_is_asked(case: Case) -> set[Ending]:
    match case.cell.phase:
        case "set-up":
            return {Ending(CANCELLED, NOBODY)}
        case "rounds" | "stop":
            return {Ending(CANCELLED, SOURCE)}
        case _ if case.ends_recovery:
            return _given_up()
        case _:  # a later signal may come when only verifying is left, and cancels that
            return {MOVED, UNVERIFIED} if len(case.signals) > 1 else {MOVED}


def _dest_is_asked(case: Case) -> set[Ending]:
    if (early := _before_commit(case)) is not None:
        return early
    if case.cell.phase == "hand-over":
        return {STAYS, MOVED}
    return _given_up() if case.ends_recovery else {MOVED}


def _given_up() -> set[Ending]:
    """Nobody waits any more for pages that are missing, or for the word that none is."""
    return {LOST, _NOT_HEARD}


def _broken(case: Case, out_s: float, *, committed: bool) -> set[Ending]:
    """The connections are gone, or nobody answers for so long that they are taken for gone."""
    if (early := _before_commit(case)) is not None:
        silent = case.cell.fault in ("stop", "silence") and case.cell.hit != "source"
        return _after_commit(case) if committed and silent else early
    match case.cell.phase:
        case "hand-over":
            return _after_commit(case)
        case "recovery":
            in_time = {MOVED} if out_s < case.recover_s + AROUND_S else set()
            late = _given_up() if out_s > case.recover_s - AROUND_S else set()
            # A guest whose run is over lacks nothing: it is the result that is waited with.
            return in_time | late | ({MOVED} if case.cell.strategy == "lazy-copy" else set())
        case _:
            return {MOVED}


def _after_commit(case: Case) -> set[Ending]:
    """A question may come before the commit. What was said while nobody listened may still be read;
    else the result is lost, or post-copy comes back for its pages."""
    return {STAYS, MOVED, UNVERIFIED} if case.cell.strategy in COPYING else {STAYS, MOVED}


def contradictions(case: Case, seen: Seen, ending: Ending) -> list[str]:
    """Where the ending and what the logs say of the hand-over cannot both be."""
    dest = seen.logs.dest.first
    has_commit, runs = dest("commit-received") < EVER, dest("resumed") < EVER
    has_all = dest("all-pages-present") < EVER or case.cell.strategy in (*COPYING, "lazy-copy")
    problems = []
    if ending in (STAYS, Ending(CANCELLED, SOURCE)) and runs:
        problems.append("the source goes on, and the destination has resumed the guest")
    if ending.runs == DEST and not (has_commit and runs and has_all):
        problems.append("the destination ran a guest that it did not have")
    if ending == DIED and runs and has_all and case.cell.strategy != "lazy-copy":
        problems.append("the guest was whole at the destination, and is lost")
    if ending == _NO_RESULT and not (runs and has_all):
        problems.append("the source says that it moved, and it had not")
    if ending == IN_DOUBT and case.cell.phase in ("set-up", *_BEFORE_COMMIT):
        problems.append("in doubt although no commit was sent")
    asked_ns = seen.done.over_ns if seen.done is not None and case.cell.fault == "ask" else EVER
    if ending == UNVERIFIED and asked_ns < seen.logs.source.first("completed"):
        problems.append("cancelled when it was too late")
    lost_there = any("is lost" in line for line in seen.logs.dest.lines)
    if lost_there and ending.exit_code in (0, 1, 3):
        problems.append("the destination says that the guest is lost, its source does not")
    return problems


def dest_codes(case: Case, seen: Seen) -> set[int]:
    """Exit codes that a destination may end with."""
    cell, dest = case.cell, seen.logs.dest.first
    if cell.hit == "dest" and cell.fault == "kill":
        return {KILLED}
    asked_there = cell.hit == "dest" and cell.fault == "ask"
    if case.ends_recovery:
        whole = min(dest("all-pages-present"), dest("guest-stopped")) < EVER
        return {0, 4, CANCELLED} if whole else {4}
    if not asked_there:
        return {CANCELLED}  # it was idle by then
    if cell.phase in ("set-up", *_BEFORE_COMMIT) or dest("resumed") is EVER:
        return {CANCELLED}
    if cell.strategy in COPYING:
        return {0, 4}  # it had its run by then, or ended with the agent
    # Pages that it lacked came first, and its source has the result, unless it was told to end once
    # more when none was missing.
    whole_ns = min(dest("all-pages-present"), dest("guest-stopped"))
    again = seen.done is not None and len(case.signals) > 1 and seen.done.over_ns > whole_ns
    return {0, 4} if again else {0}


def outage_s(seen: Seen) -> float:
    """From a recovery's cut to the last part of the fault; 0 where there is no recovery."""
    if not seen.cut_ns or seen.done is None:
        return 0.0 if seen.done is not None else math.inf
    return (seen.done.over_ns - seen.cut_ns) / 1e9
