"""The source's end of a session, without I/O: it takes messages and says what follows.

    connect ── set_up ──> Ready ── ready ── round_sent ──> RoundDone ... pause ── commit ──>
        (RoundDone) Resumed ──> pre-copy: it has moved
                                post-copy: lost, dial, joined, stands, proved ──> Complete
    ──> Finished ── Bye

Until `commit`, every failure ends with the guest still running here. From then on, only the
destination's word moves this end: see the rules in `common.handover`.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final, NoReturn

from pageferry.common.errors import PageferryError, PeerRefused, RemoteProtocolError
from pageferry.common.guest_location import When, Who, location_error
from pageferry.common.handover import Event, Role, State
from pageferry.common.session_protocol import SessionProtocol
from pageferry.common.wire import messages
from pageferry.common.wire.messages import Message

_COMMITTED: Final = (State.DEVICE, State.POSTCOPY_DEVICE)
_FOLLOWS: Final = (State.POSTCOPY_ACTIVE, State.POSTCOPY_PAUSED, State.POSTCOPY_RECOVER)

# What a destination may say in each state of this end. What ends a session (`Refuse`, `Failed`) and
# answers to pings may come at any time: the reader of the connection deals with them.
MAY_SAY: Final[dict[State, tuple[type[Message], ...]]] = {
    State.SETUP: (messages.Ready,),
    State.ACTIVE: (messages.RoundDone,),
    State.DEVICE: (messages.RoundDone, messages.Resumed),
    State.POSTCOPY_DEVICE: (messages.RoundDone, messages.Resumed),
    State.POSTCOPY_ACTIVE: (messages.Complete, messages.Finished),
    State.POSTCOPY_PAUSED: (messages.Resync,),
    State.POSTCOPY_RECOVER: (messages.Complete, messages.Finished),
    State.COMPLETED: (messages.Finished,),
}


class NextStep(Enum):
    """What follows when the connections are lost or the destination refuses."""

    GO_ON_HERE = auto()  # nothing was handed over: the guest runs here
    ASK = auto()  # over new connections: whether the destination runs the guest is not known
    RECONNECT = auto()  # it runs there, and lacks pages
    NOTHING = auto()  # it has moved: only the result is missing


class SourceProtocol(SessionProtocol):
    """What a source may hear and say, and when the guest may run here.

    A step of its own that the hand-over does not allow raises `LocalProtocolError`.

    Args:
        limit_s: Seconds that an outage may last.
    """

    def __init__(self, limit_s: float) -> None:
        super().__init__(Role.SOURCE, limit_s)
        self._round: int | None = None  # the round whose barrier is still awaited

    # -- what this end does -----------------------------------------------------------------------

    def connect(self) -> None:
        """Note that this end is about to connect to the destination."""
        self.handover.step(Event.START)

    def ready(self) -> None:
        """Note that all connections stand and pages may be sent."""
        self.handover.step(Event.READY)

    def round_sent(self, index: int) -> None:
        """Note that a round has been sent up to its barrier.

        Args:
            index: Number of the round; the destination's next `RoundDone` has to name it.
        """
        self._round = index

    def pause(self) -> None:
        """Note that the guest is about to be paused for the last pages."""
        self.handover.step(Event.PAUSE)

    def commit(self, commit: messages.Commit, *, last_round: bool) -> messages.Commit:
        """Hand the guest over: the one step that cannot be undone.

        Call it before the first byte leaves: nobody knows whether a broken write reached the peer.

        Args:
            commit: The message that is about to be sent; its `missing` is set where pages are to
                follow.
            last_round: Whether pages were sent during the stop, so that their barrier is still
                awaited.

        Returns:
            `commit` itself.
        """
        follows = commit.missing is not None
        self.handover.step(Event.POSTCOPY_COMMIT_SENT if follows else Event.COMMIT_SENT)
        self._round = commit.barrier if last_round else None
        return commit

    # -- what the destination says ----------------------------------------------------------------

    def receive(self, message: Message) -> Message:
        """Take a message of the present attempt, and make the step that it causes.

        Args:
            message: From the control connection; `SourceControl` has dealt with refusals and pongs.

        Returns:
            The same message.

        Raises:
            RemoteProtocolError: The message has no place here.
            PeerRefused: The destination ended another round than the one that was sent.
        """
        expected = MAY_SAY.get(self.handover.state, ())
        if isinstance(message, messages.RoundDone):
            self._round_done(message, expected)
        elif not isinstance(message, expected) or self._round is not None:
            raise self._out_of_turn(message, expected)
        if isinstance(message, messages.Resumed):
            self.handover.peer(Event.RESUMED)
        elif self.handover.state in _FOLLOWS and not isinstance(message, messages.Resync):
            self.recovery.settled()
            self.handover.peer(Event.COMPLETE)
        return message

    def _round_done(self, message: messages.RoundDone, expected: tuple[type[Message], ...]) -> None:
        if self._round is None or messages.RoundDone not in expected:
            raise self._out_of_turn(message, expected)
        if message.index != self._round:
            raise PeerRefused(f"the destination ended round {message.index}, not {self._round}")
        self._round = None

    def _out_of_turn(
        self, message: Message, expected: tuple[type[Message], ...]
    ) -> RemoteProtocolError:
        if self._round is not None:
            expected = (messages.RoundDone,)
        names = " or ".join(str(kind.model_fields["kind"].default) for kind in expected)
        return RemoteProtocolError(
            f"the destination sent {message.kind}, expected {names or 'nothing'}"
        )

    # -- what breaks ------------------------------------------------------------------------------

    def lost(self, error: PageferryError, now_s: float) -> NextStep:
        """Take what has ended the present connections, and say what follows.

        Args:
            error: What ended them; `PeerRefused` after a commit means that the destination will
                never run the guest.
            now_s: The moment on the driver's clock, from which the limit of an outage counts.

        Returns:
            What the driver has to do next.
        """
        state = self.handover.state
        if state in _COMMITTED:
            if isinstance(error, PeerRefused):
                # It says so only where it would answer "never": see rule 4 of the hand-over.
                self.handover.peer(Event.NEVER)
                return NextStep.GO_ON_HERE
            self.handover.step(Event.CONNECTION_LOST)
            self.recovery.broke(self.attempt, now_s)
            return NextStep.ASK
        if state in _FOLLOWS:
            self.broke(self.attempt, now_s)
            return NextStep.RECONNECT
        return NextStep.NOTHING if self.handover.finished else NextStep.GO_ON_HERE

    def answered(self, outcome: messages.CommitOutcome, error: PageferryError) -> int | None:
        """Take the answer to the question what became of the commit.

        Args:
            outcome: What the destination said.
            error: Why it had to be asked.

        Returns:
            When the guest began to run there, ns of the destination's clock; None: it is about to.

        Raises:
            PeerRefused: The guest does not run there, and goes on here.
        """
        self.handover.peer(outcome.answer)
        self._round = None
        if outcome.answer == "running":
            return outcome.resumed_ns
        if outcome.answer == "unknown":
            raise PeerRefused(
                f"the destination has no such session, as after a restart ({error}), and takes"
                " nothing up"
            )
        raise PeerRefused(f"the destination never got the whole commit ({error})")

    def unanswered(self, error: PageferryError, why: str) -> NoReturn:
        """End in doubt: nobody could be asked for as long as was allowed.

        Args:
            error: Why the destination had to be asked.
            why: For people: why no answer came.

        Raises:
            InDoubtError: Always.
        """
        self.handover.step(Event.GAVE_UP)
        what = f"the commit was sent, and its answer was lost ({error}; then {why})"
        raise location_error(what, Who.DEST, When.COMMITTED)

    def dial(self) -> int:
        """Begin the next attempt to reconnect.

        Returns:
            The number of the attempt.

        Raises:
            LocalProtocolError: The stream is not broken.
        """
        return self.recovery.dial()

    def ended_there(self, outcome: messages.CommitOutcome) -> NoReturn:
        """Take what the destination says of a session that has ended there.

        Args:
            outcome: Its answer to the attempt to recover; `running`: it lacks no page any more.

        Raises:
            PeerRefused: Always. Where the destination had all of the guest, the guest has moved.
        """
        if outcome.answer != "running":
            raise PeerRefused("the destination has the guest no more")
        self.recovery.settled()
        self.handover.peer(Event.COMPLETE)
        raise PeerRefused("the destination had all of it, and has ended the session")

    # -- the ways out -----------------------------------------------------------------------------

    def end_after_commit(self) -> None:
        """End a hand-over that is under way without the destination's word: lost, or in doubt.

        Does nothing before the commit, or where the hand-over has ended.
        """
        if self.handover.commit_sent and not self.handover.ended:
            running_there = self.handover.state is State.POSTCOPY_ACTIVE
            self.handover.step(Event.FAILURE if running_there else Event.GAVE_UP)

    def go_on_here(self, *, cancelled: bool) -> None:
        """End before the hand-over: the guest stays this end's.

        Args:
            cancelled: Whether a user or a time limit ended it; if not, something failed.
        """
        self.handover.step(Event.CANCEL if cancelled else Event.FAILURE)
