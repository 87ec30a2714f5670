"""One migration at the destination: from the setup to the digest of a guest that ran here.

Each phase is a module of its own, and hands what it has made to the next one:

    prepare    Setup -> `Prepared`: memory, kernels, bulk connections; a refusal ends the session
    receive    rounds come in; only a whole commit ends it well, everything else means "never"
    resume     the whole commit is here: from now on this side runs the guest
    run        the guest runs for as long as the source asked, is stopped, its digest sent

What may be said and done when is up to `dest_agent.protocol`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pageferry.common.capacity.agents import dest_descriptors
from pageferry.common.errors import (
    CancelledByUser,
    ConnectionBroken,
    GuestLostError,
    PageferryError,
    PeerRefused,
    RemoteProtocolError,
    UsageError,
)
from pageferry.common.guest_location import When, Who, location_error, location_sentence, when_of
from pageferry.common.handover import Handover, Role
from pageferry.common.inject import FaultPlan
from pageferry.common.process.aio import run_to_completion
from pageferry.common.process.threads import failure_of
from pageferry.common.recovery import RecoveryPhase
from pageferry.common.timeline import Timeline
from pageferry.common.units import format_size
from pageferry.common.wire import messages
from pageferry.common.wire.connection import Connection
from pageferry.common.wire.injector import Injector
from pageferry.common.wire.link_policy import STALL_S
from pageferry.dest_agent.admission import MemoryBudget
from pageferry.dest_agent.guest_registry import GuestRegistry, Reservation
from pageferry.dest_agent.guest_thread import GuestThread
from pageferry.dest_agent.protocol import DestProtocol
from pageferry.dest_agent.session.context import DestContext, Prepared
from pageferry.dest_agent.session.inbox import DestControl
from pageferry.dest_agent.session.prepare import await_setup, prepare, ready, release
from pageferry.dest_agent.session.receive import carry_out_commit, receive_commit
from pageferry.dest_agent.session.run import GuestRun
from pageferry.dest_agent.session.termination import Termination

LAST_WORD_S = 1.0


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms on which an agent takes guests.

    Attributes:
        memory: Bytes of the only size that is taken; None takes any.
        budget: Where the guest's memory is booked.
        enter: Called with the session's id and the setup once it is known which guest will come;
            raises `PageferryError` if there is no room.
        registry: Takes over a guest that stays; None if guests are not kept.
        plan: Faults to inject, shared by all sessions; None without any.
        witness: File that keeps the guest's heartbeats, for tests.
    """

    memory: int | None
    budget: MemoryBudget
    enter: Callable[[str, messages.Setup], None]
    registry: GuestRegistry | None = None
    plan: FaultPlan | None = None
    witness: Path | None = None


class DestSession:
    """Receives one guest and runs it.

    Args:
        session: Its id, as the hello has it.
        connection: The control connection, not yet welcomed; the session closes it.
        timeline: Gets the destination's events.
        say: Takes one line for people.
        terms: The agent's.

    Attributes:
        session: Its id.
        set_up: Whether the source has said which guest will come, and there is room for it.
        descriptors_due: How many it will still open; 0 once all its connections stand.
        dropped: Whether it had to make room for another one.
        termination: What signals to the agent do to it.
    """

    def __init__(
        self,
        session: str,
        connection: Connection,
        timeline: Timeline,
        say: Callable[[str], None],
        terms: Terms,
    ) -> None:
        self.session = session
        self.set_up = False
        self.descriptors_due = 0
        self.dropped = False
        self._terms = terms
        self._tls = connection.peer_certificate is not None
        self._stopped_here = False
        self._prepared: Prepared | None = None
        self._running: GuestRun | None = None
        self._task: asyncio.Task[Any] | None = None
        plan = terms.plan
        injector = Injector(plan, timeline) if plan is not None else None
        protocol = DestProtocol(STALL_S, connection.attempt)  # until the setup says how long
        control = DestControl(connection, protocol, injector)
        self._context = DestContext(
            protocol,
            control,
            GuestThread(),
            timeline,
            say,
            injector,
            Reservation(terms.registry, session, terms.budget),
        )
        self.termination = Termination(protocol, control, lambda: self.when, self._end)

    # -- life cycle ---------------------------------------------------------------------------

    async def run(self) -> None:
        """Run the session from the welcome to the goodbye; once.

        Raises:
            PageferryError: What ended it early; the source has been told, as far as it can be.
            CancelledError: The task was cancelled, which ends the session.
        """
        self._context.control.listen()
        self._task = asyncio.current_task()
        try:
            await self._phases()
        except PageferryError as error:
            await run_to_completion(self._give_up(error))
            raise
        except asyncio.CancelledError:
            self._stopped_here = True
            stopped = CancelledByUser("the destination agent was stopped")
            await run_to_completion(self._give_up(stopped))
            raise
        except Exception as error:
            failure = failure_of(error)
            await run_to_completion(self._give_up(failure))
            raise failure from error
        finally:
            if self.injector is not None:
                self.injector.close()
            await run_to_completion(self._close())

    async def _phases(self) -> None:
        context = self._context
        setup = await await_setup(context)
        self._admit(setup)
        # From here on the source may open connections for its pages.
        prepared = self._prepared = await prepare(context, setup, self._terms.witness)
        context.reached("ready")
        await context.control.send(ready(prepared))
        context.protocol.ready()
        commit = await receive_commit(context, prepared)
        running = self._running = GuestRun(context, prepared, commit, self.termination.stopping)
        self.termination.runs(prepared, running)
        await carry_out_commit(context, prepared, commit)
        await running.run()

    def _admit(self, setup: messages.Setup) -> None:
        if setup.keep is not None:
            self.reservation.admit(setup.keep)
        size, expected = setup.guest.memory, self._terms.memory
        if expected not in (None, size):
            raise UsageError(
                f"guest size mismatch: the source has a guest of {format_size(size)},"
                f" this destination takes {format_size(expected or 0)}"
            )
        self._terms.enter(self.session, setup)
        self.descriptors_due = dest_descriptors(setup.channels, setup.guest.vcpus, tls=self._tls)
        self.set_up = True

    async def _give_up(self, error: PageferryError) -> None:
        """Tell the source; if the whole commit is not here yet, never resume from now on."""
        context = self._context
        if context.protocol.handover.may_run_guest:
            return
        message = context.protocol.give_up(error, stopped_here=self._stopped_here)
        self.reservation.dismiss()
        context.timeline.log("failed", reason=str(error))
        if message is not None:
            with contextlib.suppress(PageferryError, TimeoutError):
                async with asyncio.timeout(LAST_WORD_S):
                    await context.control.send(message)

    async def _close(self) -> None:
        context = self._context
        await context.control.mute()
        if self._prepared is not None:
            await self._prepared.stream.close()
        # Bulk connections are closed first: linger() waits for the source to close its end.
        await context.control.connection.linger()
        if self._running is not None:
            self._running.closing = True
        if self._prepared is not None:
            await context.thread.run(self._release_pages, self._prepared)
        if self._running is not None:
            await self._running.settle()
        if self._prepared is not None and not self.reservation.kept:
            await context.thread.run(release, self._prepared.guest)
        self.reservation.dismiss()
        context.thread.close()

    def _release_pages(self, prepared: Prepared) -> None:
        if prepared.postcopy is not None:
            lost = prepared.postcopy.close()
            if lost and self.handover.may_run_guest:
                self._context.protocol.guest_failed()

    # -- what the agent asks ------------------------------------------------------------------

    @property
    def handover(self) -> Handover:
        """Where this end of the hand-over stands."""
        return self._context.protocol.handover

    @property
    def reservation(self) -> Reservation:
        """Who takes over the guest, if it stays."""
        return self._context.reservation

    @property
    def injector(self) -> Injector | None:
        """What injects faults; None without any."""
        return self._context.injector

    def reached(self, point: str) -> None:
        """Tell injected faults that a point has been reached.

        Args:
            point: As in `DestContext.reached`.
        """
        self._context.reached(point)

    @property
    def may_be_asked(self) -> bool:
        """Whether its source may not know what became of its commit, and come to ask."""
        return self._context.protocol.may_be_asked

    @property
    def said_bye(self) -> bool:
        """Whether the source has the result."""
        return self._running is not None and self._running.said_bye

    @property
    def had_its_run(self) -> bool:
        """Whether the guest was here and its run was not cut short."""
        return self._running is not None and self._running.had_its_run

    @property
    def network(self) -> str:
        """Where its source is: see `Connection.network`."""
        return self._context.control.connection.network

    @property
    def when(self) -> When:
        """How far its hand-over has come, or had."""
        return when_of(Role.DEST, self.handover.state, started=self.set_up)

    def location_error(self, error: PageferryError) -> PageferryError:
        """Put into an error where the guest is, now that the session has ended.

        Args:
            error: What ended the session; its words may be changed.

        Returns:
            The same error, or one of another kind if the guest is here in part or whole.
        """
        if isinstance(error, UsageError | GuestLostError):
            return error  # somebody else's bad usage, or it says already where the guest is
        if self.when in (When.PARTLY, When.WHOLE):
            return location_error(str(error), Who.PEER, self.when)
        error.args = (location_sentence(str(error), Who.PEER, self.when),)
        return error

    def answer(self) -> messages.CommitOutcome:
        """Answer what became of the commit; if it has not been carried out yet, that is "never".

        Returns:
            What to tell the source; the session ends if the answer was still open.
        """
        was_open = not (self.handover.ended or self.handover.may_run_guest)
        outcome = self._context.protocol.query()
        if was_open:
            lost = ConnectionBroken("the source lost this connection and asked")
            self._context.control.fail(lost)
        return outcome

    # -- what the agent does ------------------------------------------------------------------

    def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def drop(self, reason: str) -> None:
        """End a session that has not said yet which guest it brings.

        Args:
            reason: What its source is told.
        """
        self.dropped = True
        self._context.control.fail(PeerRefused(reason))

    def cut(self) -> None:
        """Reset a session's connection: on its way out, it is not to wait for its peer."""
        self._context.control.connection.abort()

    def attach(self, hello: messages.Hello, connection: Connection) -> None:
        """Take a bulk or urgent connection.

        Args:
            hello: Says which channel it is, and of which attempt.
            connection: Welcomed. If it is not taken, the caller closes it.

        Raises:
            RemoteProtocolError: None is due.
        """
        recovery = self._context.protocol.recovery
        if not recovery.admits(hello.attempt):
            raise RemoteProtocolError(
                f"a {hello.role} connection of attempt {hello.attempt}, and {recovery.attempt} is"
                f" {recovery.phase}"
            )
        if self._prepared is None:
            raise RemoteProtocolError(f"a {hello.role} connection came before the guest was ready")
        self._prepared.stream.attach(hello, connection)
        if self._prepared.stream.stands:
            self.descriptors_due = 0

    def awaits(self, attempt: int) -> bool:
        """Return whether to listen to a source that comes back.

        Args:
            attempt: Of its new control connection.

        Returns:
            False without post-copy, and for an attempt that is not newer than the present one.
        """
        postcopy = self._prepared is not None and self._prepared.postcopy is not None
        return postcopy and self._context.protocol.recovery.is_newer(attempt)

    def offer(self, connection: Connection) -> None:
        """Pass on a source that is back; it may have seen the break before we did.

        Args:
            connection: Its new control connection, welcomed.
        """
        settled = self._context.protocol.recovery.phase is RecoveryPhase.SETTLED
        self._context.control.offer(connection, late=settled or self.handover.finished)
