"""The destination's end of a session, without IO: messages go in, what is to be done comes out.

    Setup ──> PrepareGuest ── ready ──> barriers, Commit ──> whole_commit ── commit, resumed ──>
    (post-copy: broke, joined, stands, proved) ── complete ──> finished ── Bye

Before the commit is whole, `give_up` ends the session for good. From `commit` on the guest runs
here, whatever becomes of the source.
"""

from __future__ import annotations

from dataclasses import dataclass

from pageferry.common.errors import (
    CancelledByUser,
    ConnectionBroken,
    PageferryError,
    RemoteProtocolError,
    UsageError,
)
from pageferry.common.handover import Event, Role, State
from pageferry.common.session_protocol import SessionProtocol
from pageferry.common.wire import messages
from pageferry.common.wire.messages import Message

MOST_REASON = 2000  # characters


@dataclass(frozen=True, slots=True)
class PrepareGuest:
    """The order to make memory and kernels for the guest that the source has announced.

    Attributes:
        setup: The source's setup; whether there is room for its guest has not been checked yet.
    """

    setup: messages.Setup


@dataclass(frozen=True, slots=True)
class SourceSaidBye:
    """The source's goodbye: it has everything that it wanted."""


Happened = PrepareGuest | SourceSaidBye


class DestProtocol(SessionProtocol):
    """What a destination may hear and say, and when the guest may run here.

    Args:
        limit_s: Seconds that an outage may last, until the setup says how long.
        attempt: The attempt of the control connection on which the source has said hello.

    Attributes:
        may_be_asked: Whether the source may not know what became of its commit, and come to ask.
    """

    def __init__(self, limit_s: float, attempt: int = 0) -> None:
        super().__init__(Role.DEST, limit_s, attempt)
        self.may_be_asked = False
        self._setup: messages.Setup | None = None
        self._commit: messages.Commit | None = None
        self._rounds = 0  # the last round whose barrier has been reached
        self._resumed_ns: int | None = None

    # -- what the source says -------------------------------------------------------------------

    def receive(self, message: Message) -> Happened | None:
        """Take a message of the present attempt.

        Args:
            message: As it came on the control connection; barriers go to `barrier` instead.

        Returns:
            `PrepareGuest` for the setup, `SourceSaidBye` for the goodbye, None for everything else.
            A commit gives None too: see `whole_commit`.

        Raises:
            CancelledByUser: The source has cancelled.
            RemoteProtocolError: The message has no place here.
        """
        if self.handover.may_run_guest and not self.handover.finished:
            raise RemoteProtocolError(f"{message.kind} while pages are missing")
        match message:
            case messages.Cancel():
                raise CancelledByUser(f"the source cancelled: {message.reason}")
            case messages.Setup() if self.handover.state is State.NONE:
                self.handover.peer(Event.SETUP)
                self._setup = message
                return PrepareGuest(message)
            case messages.Commit() if self._may_commit(message):
                self._commit = message  # see `whole_commit`: pages may still be on their way
                return None
            case messages.Bye() if self.handover.finished:
                return SourceSaidBye()
        if self.handover.finished:
            return None  # the guest is here, and nothing its source says changes that
        if self.handover.state is State.NONE:
            raise RemoteProtocolError("something else came before the setup")
        raise RemoteProtocolError(f"{type(message).__name__} out of turn")

    def _may_commit(self, commit: messages.Commit) -> bool:
        if self.handover.state is not State.ACTIVE or self._commit is not None:
            return False
        if commit.barrier < self._rounds:
            return False
        setup = self._setup
        if commit.missing is not None and (setup is None or setup.postcopy is None):
            raise RemoteProtocolError("a switch to post-copy that was not set up")
        if setup is not None and setup.keep is not None and not commit.push:
            raise RemoteProtocolError("a guest that is to stay would lack pages for ever")
        return True

    def barrier(self, index: int, t_ns: int) -> messages.RoundDone:
        """Note that every bulk connection has reached the barrier of round `index`.

        Args:
            index: Counts from 1; the receiver has checked that rounds come in order.
            t_ns: When the last connection reached it, CLOCK_MONOTONIC ns of this host.

        Returns:
            What to tell the source.

        Raises:
            RemoteProtocolError: The commit that is here names an earlier round.
        """
        if self._commit is not None and index > self._commit.barrier:
            raise RemoteProtocolError("BarrierReached out of turn")
        self._rounds = index
        return messages.RoundDone(index=index, t_ns=t_ns)

    @property
    def whole_commit(self) -> messages.Commit | None:
        """The commit, once it and all pages that it needs are here; None until then."""
        commit = self._commit
        return commit if commit is not None and commit.barrier == self._rounds else None

    def query(self) -> messages.CommitOutcome:
        """Answer a source that asks what became of its commit.

        If the commit has not been carried out yet, being asked makes the answer `never`.

        Returns:
            `running`, `never`, or `unknown` for a guest that ran here and was lost; and when it
            began to run here, if it did.
        """
        answer = self.handover.query()
        return messages.CommitOutcome(answer=answer.value, resumed_ns=self._resumed_ns)

    # -- what this end does -----------------------------------------------------------------------

    def ready(self) -> None:
        """Note that the source has been told that pages may come.

        Raises:
            ConnectionBroken: It has asked meanwhile, and was answered `never`.
        """
        if self.handover.ended:
            raise ConnectionBroken("the source asked what had become of the guest before it came")
        self.handover.step(Event.READY)

    def commit(self) -> None:
        """Carry out the whole commit: from now on the guest runs here, and nowhere else.

        Everything that can fail has to be done before.

        Raises:
            ConnectionBroken: The source has asked meanwhile, and was answered `never`.
        """
        if self.handover.ended:
            raise ConnectionBroken(
                "the source asked what had become of the guest before this commit was carried out,"
                ' and was told "never": it is not carried out any more'
            )
        missing = self._commit is not None and self._commit.missing is not None
        self.handover.step(Event.POSTCOPY_COMMIT if missing else Event.COMMIT)

    def resumed(self, t_ns: int) -> messages.Resumed:
        """Note that the guest runs.

        Args:
            t_ns: When its last vCPU began, CLOCK_MONOTONIC ns of this host.

        Returns:
            What to tell the source.
        """
        self._resumed_ns = t_ns
        self.handover.step(Event.RESUMED)
        return messages.Resumed(t_ns=t_ns)

    @property
    def resumed_ns(self) -> int | None:
        """When the guest began to run here, CLOCK_MONOTONIC ns; None before that."""
        return self._resumed_ns

    def complete(self, t_ns: int) -> messages.Complete:
        """Note that no page is missing any more.

        Args:
            t_ns: Since when, CLOCK_MONOTONIC ns of this host.

        Returns:
            What to tell the source.
        """
        self.handover.step(Event.COMPLETE)
        return messages.Complete(t_ns=t_ns)

    def guest_ended(self) -> None:
        """Note that the guest has had its run and needs no more pages."""
        if not self.handover.finished:
            self.handover.step(Event.COMPLETE)

    def guest_failed(self) -> None:
        """Note that the guest will never run here, or no longer does."""
        if not self.handover.finished:
            self.handover.step(Event.FAILURE)

    def came_late(self, attempt: int) -> None:
        """Take back a source that missed that no page is missing any more.

        Args:
            attempt: Of its new control connection; newer than the present one.
        """
        self.handover.peer(Event.RECOVER)
        self.recovery.joined(attempt)

    def give_up(self, error: PageferryError, *, stopped_here: bool = False) -> Message | None:
        """End a session whose guest does not run here: from now on it never will.

        Args:
            error: Why.
            stopped_here: Whether this agent was told to end, rather than the source's user
                cancelled.

        Returns:
            What to tell the source; None if it knows already or can't be told, or if the guest runs
            here, which nothing changes then.
        """
        if self.handover.may_run_guest:
            return None
        cancelled = isinstance(error, CancelledByUser)
        lost = isinstance(error, ConnectionBroken)
        # It may have run here, and "failed" would tell the source that it never did: it has to ask.
        has_run = self.handover.state is State.LOST
        # Only a source whose connection broke while it might have sent its commit comes to ask.
        self.may_be_asked = has_run or (lost and self.handover.state is State.ACTIVE)
        self.handover.step(Event.CANCEL if cancelled and not has_run else Event.FAILURE)
        if has_run or lost or (cancelled and not stopped_here):
            return None
        kind = messages.Refuse if isinstance(error, UsageError) else messages.Failed
        return kind(reason=str(error)[:MOST_REASON])
