"""The hand-over: at most one guest runs.

This file knows nothing of sockets, messages or guests. It is one table, and these are its rules:

1. An agent steps *before* it acts: `commit_sent` before it writes the first byte of the commit
   (after a broken write, nobody knows whether it reached the peer), `commit` before the guest gets
   its first instruction at the destination, `failure` or `cancel` before it goes on at the source.
2. Until the commit is sent, the guest belongs to the source. Any failure and any cancel ends with
   the guest going on there. The destination can't run it: it does not have the whole commit.
3. Once the commit is sent, the source never resumes by itself, and there is no cancel any more. It
   waits, and where the connection is lost it asks, by session id, over a new one.
4. The destination has the whole commit when the snapshot and every page it needs have arrived and
   everything that can fail has been done. From `commit` on it runs the guest and never takes that
   back. A question that comes earlier makes it `failed` *before* it answers "never": a commit that
   is still on its way on the old connection then finds a state in which it is illegal. What the
   destination says unasked obeys the same rule: it reports a failure of its own only where it would
   answer "never". One that has run the guest and failed since (`lost`) closes the connection and
   waits to be asked.
5. The source resumes a guest whose commit was sent on two answers only:
   "never"    the destination does not run it, did not, and will not: `failed`.
   "unknown"  the destination has no such session, as after a restart: `rewound`. It may have run
              the guest and forgotten it, so this is not "never". But a guest does not outlive its
              process, and no agent forgets a session whose guest runs. So nobody runs it, and the
              source's paused copy may go on without there being two. Whatever the guest did at the
              destination in the meantime is undone, hence a state of its own.
              This holds only if the answer comes from where the commit went, from that process or
              its successor; an address that leads to another host proves nothing. And it does not
              hold for a guest that was to stay there: it may have been moved on before its host
              forgot it. In either case "unknown" is no answer, and the asker takes no step.
   No answer at all means `in-doubt`: the guest stays paused until a later question is answered, as
   above, or until a person has made sure that nobody else runs it and says so (`released`). That
   word is taken as it is: what the guest did elsewhere is undone, as with "unknown".
6. In post-copy the destination runs with pages missing. A broken connection pauses the migration,
   not the hand-over: the guest waits on its faults, the source reconnects, learns what is missing
   and goes on. The source has been told that the guest ran elsewhere, so its own copy is out of
   date and is never resumed, not even on "unknown". Where the two never meet again the guest is
   `lost`: the destination stops what it has, and the source only knows that nobody told it that
   everything had arrived.
7. A step that is not in the table raises an error and leaves the state as it was.

docs/handover.md draws the table, for either end (`python -m scripts.docs_handover`).

States carry QEMU's names (qapi/migration.json); `in-doubt`, `rewound` and `lost` are ours. QEMU's
`postcopy-device` (since 10.2) lasts until the destination has everything but memory. Here it can be
left backwards, as the destination has not yet said that it runs.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pageferry.common.errors import LocalProtocolError, ProtocolError, RemoteProtocolError


class Role(StrEnum):
    """The two ends of a migration."""

    SOURCE = "source"
    DEST = "dest"


class State(StrEnum):
    """Where one end stands."""

    NONE = "none"
    SETUP = "setup"
    ACTIVE = "active"
    PRE_SWITCHOVER = "pre-switchover"
    DEVICE = "device"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    IN_DOUBT = "in-doubt"
    REWOUND = "rewound"
    POSTCOPY_DEVICE = "postcopy-device"
    POSTCOPY_ACTIVE = "postcopy-active"
    POSTCOPY_PAUSED = "postcopy-paused"
    POSTCOPY_RECOVER = "postcopy-recover"
    LOST = "lost"


class Event(StrEnum):
    """What happens at one end: its own doing (`step`), or the peer's (`peer`)."""

    START = "start"  # source: about to connect
    SETUP = "setup"  # dest: the source has said which guest will come
    READY = "ready"  # dest: pages may come; source: it said so
    PAUSE = "pause"  # source: about to pause the guest for the last pages
    RESUMED_AGAIN = "resumed_again"  # source: back to rounds, nothing was committed
    COMMIT_SENT = "commit_sent"  # source: about to write the commit
    POSTCOPY_COMMIT_SENT = "postcopy_commit_sent"  # the same, with pages still to follow
    COMMIT = "commit"  # dest: has everything and is about to run the guest
    POSTCOPY_COMMIT = "postcopy_commit"  # the same, with pages missing
    RESUMED = "resumed"  # dest: the guest runs; source: it said so
    RUNNING = "running"  # source: the answer to a question
    NEVER = "never"  # source: the answer to a question, or a destination that gave up
    UNKNOWN = "unknown"  # source: the answer to a question
    QUERY = "query"  # dest: the source asks what became of the commit
    COMPLETE = "complete"  # dest: no page is missing any more; source: it said so
    RECOVER = "recover"  # post-copy: a new connection is there
    RECOVERED = "recovered"  # post-copy: what is missing is known, pages flow again
    CONNECTION_LOST = "connection_lost"
    GAVE_UP = "gave_up"  # nobody could be reached for as long as was allowed
    RELEASED = "released"  # source: a person has seen that nobody else runs the guest
    CANCEL = "cancel"
    FAILURE = "failure"


_S, _E = State, Event
_SOURCE, _DEST = Role.SOURCE, Role.DEST

TABLE: Final[dict[tuple[Role, State], dict[Event, State]]] = {
    # The guest belongs to the source: every way out except commit_sent leaves it there.
    (_SOURCE, _S.NONE): {
        _E.START: _S.SETUP,
        _E.CANCEL: _S.CANCELLED,
        _E.FAILURE: _S.FAILED,
    },
    (_SOURCE, _S.SETUP): {
        _E.READY: _S.ACTIVE,
        _E.CANCEL: _S.CANCELLED,
        _E.FAILURE: _S.FAILED,
        _E.CONNECTION_LOST: _S.FAILED,
        _E.NEVER: _S.FAILED,
    },
    (_SOURCE, _S.ACTIVE): {
        _E.PAUSE: _S.PRE_SWITCHOVER,
        _E.CANCEL: _S.CANCELLED,
        _E.FAILURE: _S.FAILED,
        _E.CONNECTION_LOST: _S.FAILED,
        _E.NEVER: _S.FAILED,
    },
    (_SOURCE, _S.PRE_SWITCHOVER): {
        _E.RESUMED_AGAIN: _S.ACTIVE,
        _E.COMMIT_SENT: _S.DEVICE,
        _E.POSTCOPY_COMMIT_SENT: _S.POSTCOPY_DEVICE,
        _E.CANCEL: _S.CANCELLED,
        _E.FAILURE: _S.FAILED,
        _E.CONNECTION_LOST: _S.FAILED,
        _E.NEVER: _S.FAILED,
    },
    # The commit is out: only the destination's word moves the source on.
    (_SOURCE, _S.DEVICE): {
        _E.RESUMED: _S.COMPLETED,
        _E.RUNNING: _S.COMPLETED,
        _E.NEVER: _S.FAILED,
        _E.UNKNOWN: _S.REWOUND,
        _E.CONNECTION_LOST: _S.DEVICE,
        _E.GAVE_UP: _S.IN_DOUBT,
    },
    (_SOURCE, _S.POSTCOPY_DEVICE): {
        _E.RESUMED: _S.POSTCOPY_ACTIVE,
        _E.RUNNING: _S.POSTCOPY_PAUSED,  # we asked because the connection is gone
        _E.NEVER: _S.FAILED,
        _E.UNKNOWN: _S.REWOUND,
        _E.CONNECTION_LOST: _S.POSTCOPY_DEVICE,
        _E.GAVE_UP: _S.IN_DOUBT,
    },
    (_SOURCE, _S.POSTCOPY_ACTIVE): {
        _E.COMPLETE: _S.COMPLETED,
        _E.CONNECTION_LOST: _S.POSTCOPY_PAUSED,
        _E.NEVER: _S.LOST,
        _E.FAILURE: _S.LOST,
    },
    (_SOURCE, _S.POSTCOPY_PAUSED): {
        _E.RECOVER: _S.POSTCOPY_RECOVER,
        _E.CONNECTION_LOST: _S.POSTCOPY_PAUSED,
        _E.NEVER: _S.LOST,
        _E.UNKNOWN: _S.LOST,
        _E.GAVE_UP: _S.LOST,
        _E.FAILURE: _S.LOST,
    },
    (_SOURCE, _S.POSTCOPY_RECOVER): {
        _E.RECOVERED: _S.POSTCOPY_ACTIVE,
        _E.COMPLETE: _S.COMPLETED,
        _E.CONNECTION_LOST: _S.POSTCOPY_PAUSED,
        _E.NEVER: _S.LOST,
        _E.UNKNOWN: _S.LOST,
        _E.GAVE_UP: _S.LOST,
        _E.FAILURE: _S.LOST,
    },
    # The destination without the whole commit: every way out means that it never resumes.
    (_DEST, _S.NONE): {
        _E.SETUP: _S.SETUP,
        _E.CANCEL: _S.CANCELLED,
        _E.FAILURE: _S.FAILED,
        _E.CONNECTION_LOST: _S.FAILED,
        _E.QUERY: _S.FAILED,
    },
    (_DEST, _S.SETUP): {
        _E.READY: _S.ACTIVE,
        _E.CANCEL: _S.CANCELLED,
        _E.FAILURE: _S.FAILED,
        _E.CONNECTION_LOST: _S.FAILED,
        _E.QUERY: _S.FAILED,
    },
    (_DEST, _S.ACTIVE): {
        _E.COMMIT: _S.DEVICE,
        _E.POSTCOPY_COMMIT: _S.POSTCOPY_DEVICE,
        _E.CANCEL: _S.CANCELLED,
        _E.FAILURE: _S.FAILED,
        _E.CONNECTION_LOST: _S.FAILED,
        _E.QUERY: _S.FAILED,
    },
    # From here on the destination runs the guest, whatever happens to the connection.
    (_DEST, _S.DEVICE): {
        _E.RESUMED: _S.COMPLETED,
        _E.FAILURE: _S.LOST,
        _E.CONNECTION_LOST: _S.DEVICE,
        _E.QUERY: _S.DEVICE,
    },
    (_DEST, _S.POSTCOPY_DEVICE): {
        _E.RESUMED: _S.POSTCOPY_ACTIVE,
        _E.FAILURE: _S.LOST,
        _E.CONNECTION_LOST: _S.POSTCOPY_DEVICE,
        _E.QUERY: _S.POSTCOPY_DEVICE,
    },
    (_DEST, _S.POSTCOPY_ACTIVE): {
        _E.COMPLETE: _S.COMPLETED,
        _E.CONNECTION_LOST: _S.POSTCOPY_PAUSED,
        _E.RECOVER: _S.POSTCOPY_RECOVER,  # the source saw the break first
        _E.FAILURE: _S.LOST,
        _E.QUERY: _S.POSTCOPY_ACTIVE,
    },
    (_DEST, _S.POSTCOPY_PAUSED): {
        _E.COMPLETE: _S.COMPLETED,  # the last pages came just before it broke
        _E.RECOVER: _S.POSTCOPY_RECOVER,
        _E.CONNECTION_LOST: _S.POSTCOPY_PAUSED,
        _E.GAVE_UP: _S.LOST,
        _E.FAILURE: _S.LOST,
        _E.QUERY: _S.POSTCOPY_PAUSED,
    },
    (_DEST, _S.POSTCOPY_RECOVER): {
        _E.COMPLETE: _S.COMPLETED,
        _E.RECOVERED: _S.POSTCOPY_ACTIVE,
        _E.RECOVER: _S.POSTCOPY_RECOVER,  # the source saw that break first, too
        _E.CONNECTION_LOST: _S.POSTCOPY_PAUSED,
        _E.GAVE_UP: _S.LOST,
        _E.FAILURE: _S.LOST,
        _E.QUERY: _S.POSTCOPY_RECOVER,
    },
    # The end. What still comes in while an end is torn down (a broken connection, a failure of the
    # peer's that crosses ours, a late Ctrl-C) is legal and changes nothing.
    (_SOURCE, _S.COMPLETED): {
        _E.CONNECTION_LOST: _S.COMPLETED,
    },
    (_SOURCE, _S.FAILED): {
        _E.CANCEL: _S.FAILED,
        _E.FAILURE: _S.FAILED,
        _E.CONNECTION_LOST: _S.FAILED,
        _E.NEVER: _S.FAILED,
    },
    (_SOURCE, _S.CANCELLED): {
        _E.CANCEL: _S.CANCELLED,
        _E.FAILURE: _S.CANCELLED,
        _E.CONNECTION_LOST: _S.CANCELLED,
        _E.NEVER: _S.CANCELLED,
    },
    (_SOURCE, _S.REWOUND): {
        _E.CANCEL: _S.REWOUND,
        _E.FAILURE: _S.REWOUND,
        _E.CONNECTION_LOST: _S.REWOUND,
    },
    # Nothing more happens here by itself. An agent that outlives its session may ask again.
    (_SOURCE, _S.IN_DOUBT): {
        _E.RUNNING: _S.COMPLETED,  # the destination has the guest, or as much of it as arrived
        _E.NEVER: _S.FAILED,
        _E.UNKNOWN: _S.REWOUND,
        _E.RELEASED: _S.REWOUND,
        _E.CONNECTION_LOST: _S.IN_DOUBT,
    },
    (_SOURCE, _S.LOST): {
        _E.CONNECTION_LOST: _S.LOST,
    },
    (_DEST, _S.COMPLETED): {
        _E.RECOVER: _S.COMPLETED,  # the source missed that it has everything
        _E.CONNECTION_LOST: _S.COMPLETED,
        _E.QUERY: _S.COMPLETED,
    },
    (_DEST, _S.FAILED): {
        _E.CANCEL: _S.FAILED,
        _E.FAILURE: _S.FAILED,
        _E.CONNECTION_LOST: _S.FAILED,
        _E.QUERY: _S.FAILED,
    },
    (_DEST, _S.CANCELLED): {
        _E.CANCEL: _S.CANCELLED,
        _E.FAILURE: _S.CANCELLED,
        _E.CONNECTION_LOST: _S.CANCELLED,
        _E.QUERY: _S.CANCELLED,
    },
    (_DEST, _S.LOST): {
        _E.FAILURE: _S.LOST,
        _E.CONNECTION_LOST: _S.LOST,
        _E.QUERY: _S.LOST,
    },
}

# Where the guest may execute instructions. In post-copy it may, as far as its faults allow.
MAY_RUN: Final[dict[Role, frozenset[State]]] = {
    _SOURCE: frozenset(
        {_S.NONE, _S.SETUP, _S.ACTIVE, _S.FAILED, _S.CANCELLED, _S.REWOUND},
    ),
    _DEST: frozenset(
        {
            _S.DEVICE,
            _S.COMPLETED,
            _S.POSTCOPY_DEVICE,
            _S.POSTCOPY_ACTIVE,
            _S.POSTCOPY_PAUSED,
            _S.POSTCOPY_RECOVER,
        }
    ),
}

# What the destination answers. Before the commit there is no answer until the question itself has
# been taken as a step, and then the state is `failed`. A `lost` guest ran and no longer does.
ANSWERS: Final[dict[State, Event]] = {
    _S.DEVICE: _E.RUNNING,
    _S.COMPLETED: _E.RUNNING,
    _S.POSTCOPY_DEVICE: _E.RUNNING,
    _S.POSTCOPY_ACTIVE: _E.RUNNING,
    _S.POSTCOPY_PAUSED: _E.RUNNING,
    _S.POSTCOPY_RECOVER: _E.RUNNING,
    _S.FAILED: _E.NEVER,
    _S.CANCELLED: _E.NEVER,
    _S.LOST: _E.UNKNOWN,
}

_THE_COMMIT: Final = frozenset({_S.DEVICE, _S.POSTCOPY_DEVICE})
_THE_END: Final = frozenset(
    {_S.COMPLETED, _S.FAILED, _S.CANCELLED, _S.IN_DOUBT, _S.REWOUND, _S.LOST}
)


def may_run(role: Role | str, state: State | str) -> bool:
    """Tell whether an end may let the guest execute instructions.

    Args:
        role: Which end, also by its value.
        state: That end's state, also by its value.

    Returns:
        Whether `state` is in `MAY_RUN`. In post-copy that is so while pages are missing, too.

    Raises:
        ValueError: There is no such role or state.
    """
    return State(state) in MAY_RUN[Role(role)]


class Handover:
    """One end's place in the table.

    Args:
        role: Which end this is, also by its value. It begins in state `none`.
    """

    def __init__(self, role: Role | str) -> None:
        self.role: Final = Role(role)
        self._state = State.NONE
        self._commit_sent = False

    @property
    def state(self) -> State:
        """Where this end stands."""
        return self._state

    @property
    def may_run_guest(self) -> bool:
        """Whether this end may let the guest execute instructions."""
        return may_run(self.role, self._state)

    @property
    def commit_sent(self) -> bool:
        """Source: the commit is, or was, on the wire. Destination: it has been whole here."""
        return self._commit_sent

    @property
    def finished(self) -> bool:
        """Whether the guest has moved and the source is no longer needed: `completed`."""
        return self._state is State.COMPLETED

    @property
    def ended(self) -> bool:
        """Whether this end does nothing more by itself; `in-doubt` may still be answered."""
        return self._state in _THE_END

    def step(self, event: Event | str) -> State:
        """Take a step for what this end is about to do, or has seen.

        Args:
            event: Named before it is acted on, see rule 1.

        Returns:
            The new state.

        Raises:
            LocalProtocolError: The step is illegal here, a bug of ours; the state is unchanged.
        """
        return self._go(event, LocalProtocolError)

    def peer(self, event: Event | str) -> State:
        """Take a step for what the peer said.

        Args:
            event: What its message means.

        Returns:
            The new state.

        Raises:
            RemoteProtocolError: It is illegal here, and the session ends; the state is unchanged.
            LocalProtocolError: There is no such event.
        """
        return self._go(event, RemoteProtocolError)

    def query(self) -> Event:
        """Answer, at the destination, the question what became of the commit.

        The question itself is a step: from now on the answer is the truth.

        Returns:
            `Event.RUNNING`, `Event.NEVER` or `Event.UNKNOWN`.

        Raises:
            RemoteProtocolError: This is the source, which is never asked.
        """
        return ANSWERS[self.peer(Event.QUERY)]

    def _go(self, event: Event | str, error: type[ProtocolError]) -> State:
        """Look the event up in the table; raise `error` where it is illegal."""
        if event not in _EVENTS:
            raise LocalProtocolError(f"there is no hand-over event {event!r}")
        try:
            state = TABLE[self.role, self._state][Event(event)]
        except KeyError:
            raise error(
                f"{event} is illegal at the {_WHO[self.role]} in state {self._state}"
            ) from None
        self._state = state
        self._commit_sent |= state in _THE_COMMIT
        return state


_EVENTS: Final = frozenset(Event)
_WHO: Final = {Role.SOURCE: "source", Role.DEST: "destination"}
