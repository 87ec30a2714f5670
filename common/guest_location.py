"""Where the guest is when somebody vanished or was asked to end: one table for every command.

Each row says where the guest is, the outcome and exit code that are reported for it, and the words.
A command that fails says what happened, then the row's words. What the tests expect after a failure
is a table of their own, derived from the protocol: see `tests/support/fault_rules.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pageferry.common.errors import (
    EXIT_CANCELLED,
    EXIT_FAILED,
    EXIT_IN_DOUBT,
    EXIT_NOT_VERIFIED,
    CancelledByUser,
    GuestLostError,
    InDoubtError,
    PageferryError,
    VerificationError,
)
from pageferry.common.handover import MAY_RUN, Role, State
from pageferry.common.report.schema import Outcome


class Who(StrEnum):
    """The party that ended or vanished, as seen by whoever reports it."""

    DEST = "destination"  # or the way to it: the source can't tell which
    SOURCE = "source"  # as seen by the process that started it
    PEER = "peer"  # the source, or the way to it, as seen by the destination
    HERE = "here"  # this destination, or this host of guests, which was asked to end
    HOST = "host"  # the host that was asked to move its guest has died, as seen by who asked
    SILENT = "silent host"  # or it says nothing, and nobody knows whether it is alive
    USER = "user"  # nobody vanished: the source was asked to cancel


class When(StrEnum):
    """How far the hand-over had come."""

    NOTHING = "no guest runs yet"
    BEFORE = "the guest runs at the source"
    COMMITTED = "the commit was sent, its answer has not come"
    PARTLY = "the guest runs at the destination, pages are missing there"
    SENT = "the guest runs at the destination, all pages have been sent, no word of their arrival"
    WHOLE = "the guest runs at the destination, which has all of it"


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """One row of the table.

    Attributes:
        outcome: As the report has it.
        exit_code: Of the command that reports it.
        words: Where the guest is, as the end of a sentence.
    """

    outcome: Outcome
    exit_code: int
    words: str


def _failed(words: str) -> Whereabouts:
    return Whereabouts("failed", EXIT_FAILED, words)


def _cancelled(words: str) -> Whereabouts:
    return Whereabouts("cancelled", EXIT_CANCELLED, words)


def _moved(words: str) -> Whereabouts:
    return Whereabouts("completed", EXIT_NOT_VERIFIED, words)


def _lost(words: str) -> Whereabouts:
    return Whereabouts("lost", EXIT_IN_DOUBT, words)


def _in_doubt(words: str) -> Whereabouts:
    return Whereabouts("in-doubt", EXIT_IN_DOUBT, words)


_AT_SOURCE: Final = "the guest goes on at the source"
_NO_GUEST: Final = "no guest had been started"
_PAUSED: Final = (
    "the guest stays paused at the source, and nobody knows whether the destination runs it: see"
    " there before you start it anywhere"
)
_IN_PART: Final = "the guest is lost: it ran at the destination, where pages of it are missing"
_SENT: Final = (
    "the guest ran at the destination, and all pages had been sent there; nobody knows whether they"
    " came, or whether it is lost: see there"
)
_UNVERIFIED: Final = "the guest has moved to the destination, and could not be verified"

_LIST: Final = "nobody knows here: 'pageferry host list' there says"

# For an agent that ends while no session is under way, whatever came and went before.
NOBODY_HERE: Final = "no guest was here or on its way"

TABLE: Final[dict[tuple[Who, When], Whereabouts]] = {
    (Who.DEST, When.NOTHING): _failed(_NO_GUEST),
    (Who.DEST, When.BEFORE): _failed(_AT_SOURCE),
    (Who.DEST, When.COMMITTED): _in_doubt(_PAUSED),
    (Who.DEST, When.PARTLY): _lost(_IN_PART),
    (Who.DEST, When.SENT): _in_doubt(_SENT),
    (Who.DEST, When.WHOLE): _moved(f"{_UNVERIFIED}; nobody knows here whether it still runs there"),
    (Who.SOURCE, When.NOTHING): _failed(_NO_GUEST),
    (Who.SOURCE, When.BEFORE): _lost("its guest ended with it"),
    (Who.SOURCE, When.COMMITTED): _in_doubt(
        "nobody knows whether the destination runs its guest, which is nowhere else"
    ),
    (Who.SOURCE, When.PARTLY): _lost(
        f"{_IN_PART}: what had not come by then ended with the source"
    ),
    (Who.SOURCE, When.SENT): _in_doubt(_SENT),
    (Who.SOURCE, When.WHOLE): _moved(_UNVERIFIED),
    (Who.PEER, When.NOTHING): _failed("no guest had come"),
    (Who.PEER, When.BEFORE): _failed(
        "the guest that was coming goes on at the source, if that still runs"
    ),
    (Who.PEER, When.COMMITTED): _in_doubt("nobody knows here whether the source has the guest"),
    (Who.PEER, When.PARTLY): _lost("the guest ran here with pages missing, and is lost"),
    # The end that receives the pages knows which ones are there.
    (Who.PEER, When.SENT): _lost("the guest ran here with pages missing, and is lost"),
    (Who.PEER, When.WHOLE): _moved("the guest has moved to this end, in whole"),
    (Who.HERE, When.NOTHING): _cancelled("no guest had come"),
    (Who.HERE, When.BEFORE): _cancelled("the guest that was coming goes on at the source"),
    (Who.HERE, When.COMMITTED): _in_doubt(
        "the guest stays paused here to its end, and nobody knows whether the destination runs it"
    ),
    (Who.HERE, When.PARTLY): _lost("the guest ran here with pages missing, and is lost"),
    (Who.HERE, When.SENT): _lost("the guest ran here with pages missing, and is lost"),
    (Who.HERE, When.WHOLE): _lost("the guest that ran here ended with it"),
    (Who.HOST, When.NOTHING): _failed("no guest had been asked to move"),
    (Who.HOST, When.BEFORE): _lost(
        "the guest ended with it, unless the other host had taken it over by then, which nobody"
        " knows here: 'pageferry host list' there says"
    ),
    (Who.HOST, When.COMMITTED): _in_doubt(
        "nobody knows here whether the other host runs the guest: 'pageferry host list' there says"
    ),
    (Who.HOST, When.PARTLY): _lost(
        "the guest is lost, unless the other host had all of it by then, which nobody knows here:"
        " 'pageferry host list' there says"
    ),
    (Who.HOST, When.SENT): _in_doubt(
        "nobody knows here whether the other host had all of the guest: 'pageferry host list' there"
        " says"
    ),
    (Who.HOST, When.WHOLE): _in_doubt(
        "the guest has moved to the other host, and nobody knows here what became of it since:"
        " 'pageferry host list' there says"
    ),
    (Who.SILENT, When.NOTHING): _failed("no guest had been asked to move"),
    (Who.SILENT, When.BEFORE): _in_doubt(
        "the guest goes on there if the host still runs, unless the other host has taken it over,"
        f" which {_LIST}"
    ),
    (Who.SILENT, When.COMMITTED): _in_doubt(f"whether the other host runs the guest {_LIST}"),
    (Who.SILENT, When.PARTLY): _in_doubt(
        "the guest runs at the other host, where pages of it are missing, and whether they come"
        f" {_LIST}"
    ),
    (Who.SILENT, When.SENT): _in_doubt(f"whether the other host had all of the guest {_LIST}"),
    (Who.SILENT, When.WHOLE): _in_doubt(
        f"the guest has moved to the other host, and what became of it since {_LIST}"
    ),
    (Who.USER, When.NOTHING): _cancelled(_NO_GUEST),
    (Who.USER, When.BEFORE): _cancelled(_AT_SOURCE),
    (Who.USER, When.COMMITTED): _in_doubt(_PAUSED),
    (Who.USER, When.PARTLY): _lost(_IN_PART),
    (Who.USER, When.SENT): _in_doubt(_SENT),
    (Who.USER, When.WHOLE): _moved(_UNVERIFIED),
}

_ERRORS: Final[dict[Outcome, type[PageferryError]]] = {
    "failed": PageferryError,
    "cancelled": CancelledByUser,
    "completed": VerificationError,
    "lost": GuestLostError,
    "in-doubt": InDoubtError,
}
_POSTCOPY: Final = frozenset(
    {State.POSTCOPY_ACTIVE, State.POSTCOPY_PAUSED, State.POSTCOPY_RECOVER, State.LOST}
)


def when_of(role: Role, state: State, *, started: bool = True) -> When:
    """Find out how far one end of the hand-over has come.

    Args:
        role: The end that `state` belongs to.
        state: That end's state in the hand-over.
        started: Whether there is a guest that has run.

    Returns:
        Never `When.SENT`: only the source's stream knows that all pages have been sent.
    """
    if state is State.COMPLETED:
        return When.WHOLE
    if state in _POSTCOPY:
        return When.PARTLY
    if role is Role.DEST:
        # From the step on it runs the guest, and the missing pages come afterwards.
        runs = state in MAY_RUN[role]
        whole = When.PARTLY if state is State.POSTCOPY_DEVICE else When.WHOLE
        return whole if runs else When.BEFORE if started else When.NOTHING
    if state in MAY_RUN[role] or state is State.PRE_SWITCHOVER:
        return When.BEFORE if started else When.NOTHING
    return When.COMMITTED


def location_error(what: str, who: Who, when: When) -> PageferryError:
    """Make the error that says what happened and where the guest is, with the right exit code.

    Args:
        what: What happened, as the beginning of a sentence without a full stop.
        who: Whose end it was.
        when: How far the hand-over had come.

    Returns:
        An error to raise, of the class that stands for the row's outcome.
    """
    there = TABLE[who, when]
    return _ERRORS[there.outcome](location_sentence(what, who, when))


def location_sentence(what: str, who: Who, when: When) -> str:
    """Say what happened and where the guest is.

    Args:
        what: What happened, as the beginning of a sentence without a full stop.
        who: Whose end it was.
        when: How far the hand-over had come.

    Returns:
        One line: `what`, a colon, and the row's words.
    """
    return f"{what}: {TABLE[who, when].words}"
