"""One migration, source end: from the connection to the verified digest.

The order of things, and who undoes what when one of them fails; each has a module of its own:

    connect, boot, set up  `set_up`     nothing runs yet; a destination forgets a session that ends
    warm up, rounds        `rounds`     the guest runs here, and goes on after a failure or a cancel
    stop                   `rounds`     the guest is paused here; a failure or a cancel resumes it
    commit sent            `hand_over`  it stays paused here until the destination has answered
    follow-up              `verify`     the guest runs there; verification uses the paused copy

What may be said and done when is for `source_agent.protocol` to know.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import (
    CancelledByUser,
    GuestLostError,
    InDoubtError,
    InternalError,
    PageferryError,
    UsageError,
    VerificationError,
)
from pageferry.common.guest.machine import Guest
from pageferry.common.guest_location import TABLE, When, Who, location_sentence, when_of
from pageferry.common.handover import Handover, Role, State
from pageferry.common.inject import FaultPlan
from pageferry.common.process.aio import run_to_completion
from pageferry.common.process.status import Status
from pageferry.common.process.threads import failure_of
from pageferry.common.strategy.base import StopAndCopy, SwitchToPostCopy
from pageferry.common.termination import SignalReply
from pageferry.common.timeline import Timeline
from pageferry.common.units import format_time
from pageferry.common.wire import bitmap, messages
from pageferry.common.wire.injector import Injector
from pageferry.common.wire.tls_credentials import ClientTls
from pageferry.source_agent.connection.connections import SourceConnections
from pageferry.source_agent.guest_thread import Worker
from pageferry.source_agent.measurements import Measurements
from pageferry.source_agent.postcopy.serving import Serving
from pageferry.source_agent.protocol import SourceProtocol
from pageferry.source_agent.resident_guest import Resident
from pageferry.source_agent.rollback import resume_at_source, stop_and_digest
from pageferry.source_agent.session.context import ReadyToSend, SourceContext
from pageferry.source_agent.session.hand_over import HandOver, send_the_rest
from pageferry.source_agent.session.rounds import send_rounds, stop_and_send
from pageferry.source_agent.session.set_up import open_control, provide_guest, set_up, warm_up
from pageferry.source_agent.session.termination import Ending
from pageferry.source_agent.session.verify import follow_up

LAST_WORD_S: Final = 1.0


class SourceSession:
    """Runs one migration of one guest; `run` returns when there is nothing left to wait for.

    Make it on the event loop; it does not begin before `run`.

    Args:
        config: Every option of the migration.
        address: Host and port of the destination.
        timeline: Gets the session's events.
        say: Is told the name of each phase, for people; on the event loop, or on the worker while
            the guest is booted.
        resident: A guest that runs already; None: one is booted, and ends with the session.
        secure: How connections use TLS; None: plain TCP.
        witness: File in which the guest's heartbeats are kept, for tests; None: no file.

    Attributes:
        config: Every option of the migration.
        record: What was measured so far, at any moment and also after a failure.
        notice: For people: the answer to a signal, set by whoever took it; None: there was none.
    """

    def __init__(
        self,
        config: MigrationConfig,
        address: tuple[str, int],
        timeline: Timeline,
        say: Callable[[str], None],
        resident: Resident | None = None,
        *,
        secure: ClientTls | None = None,
        witness: Path | None = None,
    ) -> None:
        self.config = config
        self.record = Measurements(config, secrets.token_hex(16), timeline)
        self.notice: str | None = None
        self._say = say
        self._phase = "connecting"
        self._secured = secure is not None
        self._guest: Guest | None = resident.guest if resident else None
        self._ready: ReadyToSend | None = None
        self._limit: asyncio.Timeout | None = None
        protocol = SourceProtocol(config.recover_timeout)
        injector = None
        if config.inject:
            injector = Injector(FaultPlan(config.inject), timeline, self._slow_down)
        command = "pageferry host" if resident else "pageferry dest"
        parts = config, address, self.record, protocol.handover
        connections = SourceConnections(*parts, secure=secure, tap=injector, command=command)
        self.record.connection.windows = connections.pacer.windows
        self._context = SourceContext(
            config,
            protocol,
            connections,
            Worker(),
            AsyncExitStack(),
            timeline,
            self.record,
            self._notify,
            injector,
            resident,
            witness,
        )
        self._ending = Ending(connections, protocol.recovery, config.recover_timeout)
        self._hand_over = HandOver(self._context)

    # -- life cycle ---------------------------------------------------------------------------

    async def run(self) -> None:
        """Migrate the guest; raise what ended that early, when the guest has been seen to.

        Cancelling the task cancels the migration as long as the commit has not been sent. A
        resident guest that has moved is a success, whatever became of the rest.

        Raises:
            PageferryError: What ended the migration early; the message says where the guest is.
            InDoubtError: Nobody knows whether the destination runs the guest, which stays paused
                here.
            GuestLostError: The guest ran there, and pages of it are missing.
            VerificationError: The guest has moved, and could not be verified.
            asyncio.CancelledError: The task was cancelled in time; `record` says where the guest
                is.
        """
        try:
            await self._phases()
        except (InDoubtError, GuestLostError) as error:
            lost = isinstance(error, GuestLostError)
            self.record.ended("lost" if lost else "in-doubt", str(error))
            raise
        except VerificationError as error:
            self.record.ended("completed", str(error))
            raise
        except (PageferryError, asyncio.CancelledError) as error:
            await run_to_completion(self._undo(error))
            if not isinstance(error, PageferryError):
                if self.record.outcome in ("lost", "in-doubt"):  # given up, too late to cancel
                    raise self._told(PageferryError()) from None
                raise
            if self.handover.finished and self._context.resident is not None:
                return  # it has moved; what it did there is for the other host to say
            raise self._told(error) from error.__cause__
        except Exception as error:
            failure = failure_of(error)
            await run_to_completion(self._undo(failure))
            raise self._told(failure) from error
        finally:
            await run_to_completion(self._close())

    async def _phases(self) -> None:
        context = self._context
        await open_control(context, secured=self._secured)
        guest = self._guest = await provide_guest(context)
        ready = self._ready = await set_up(context, guest)
        await warm_up(context, ready)
        await self._migrate_in_time(ready)
        await follow_up(context, ready)

    async def _migrate_in_time(self, ready: ReadyToSend) -> None:
        """Migrate until the hand-over, within `--timeout` where its action is to cancel.

        Raises `CancelledByUser` when that time is over before the commit is sent.
        """
        config = self.config
        try:
            async with asyncio.timeout(None) as limit:
                self._limit = limit
                if config.timeout is not None and config.timeout_action == "cancel":
                    limit.reschedule(asyncio.get_running_loop().time() + config.timeout)
                decision = await send_rounds(self._context, ready)
                if isinstance(decision, StopAndCopy):
                    await self._stop_and_copy(ready)
                else:
                    await self._switch(ready, decision)
        except TimeoutError:
            self._context.timeline.log("timeout", action=config.timeout_action)
            raise CancelledByUser(
                f"--timeout: cancelled after {format_time(config.timeout or 0)}, before the"
                " hand-over"
            ) from None

    async def _stop_and_copy(self, ready: ReadyToSend) -> None:
        final = await stop_and_send(self._context, ready, ready.rounds.stop)
        self._context.reached("before-commit")
        await self._too_late_to_cancel()
        await self._hand_over.commit(ready, final)

    async def _switch(self, ready: ReadyToSend, decision: SwitchToPostCopy) -> None:
        """Resume there first, then send what is missing, until nothing is."""
        context, supply = self._context, ready.supply
        assert supply is not None  # noqa: S101 - `may_switch` of this strategy is true
        final = await stop_and_send(context, ready, ready.rounds.switch)
        context.reached("before-commit")
        if supply.server.failure is not None:  # nothing is lost by that so far
            raise supply.server.failure
        await self._too_late_to_cancel()
        answered = await self._hand_over.switch(ready, final, push=decision.push)
        missing = bitmap.unpack(final.missing or b"", self.config.guest.pages)
        supply.set_missing(missing)
        ready.rounds.activity.switched(missing)
        self._ending.switched(supply, int(missing.sum()))
        serving = Serving(
            context.connections,
            context.protocol,
            supply,
            ready.guest.memory,
            context.worker,
            reached=context.reached,
            settle=self._settle,
        )
        push = decision.push
        await send_the_rest(context, ready, supply, serving, push=push, answered=answered)

    async def _too_late_to_cancel(self) -> None:
        if self._limit is None:
            return
        if self._limit.expired():
            await asyncio.sleep(0)  # it has just passed: the cancellation comes here
        self._limit.reschedule(None)

    async def _settle(self) -> None:
        """Wait until the worker is idle; a round that is under way is made to fail first."""
        self._context.connections.abort()
        if self._guest is not None and self.handover.finished:
            self._guest.abandon_replay()
        await self._context.worker.idle()

    def _slow_down(self, rate_Bps: float) -> None:
        """Send pages at no more than this rate from now on: an injected fault."""
        pacer = self._context.connections.pacer
        pacer.rate = min(pacer.rate, rate_Bps)
        if self._ready is not None and self._ready.supply is not None:
            self._ready.supply.server.limit(pacer.rate)

    # -- what is known from outside -----------------------------------------------------------

    @property
    def handover(self) -> Handover:
        """Where this end stands."""
        return self._context.protocol.handover

    @property
    def can_cancel(self) -> bool:
        """True until the commit is on the wire, and again when only the verification is left."""
        return not self.handover.commit_sent or self.handover.finished

    def asked_to_end(self, *, alone: bool = False) -> tuple[SignalReply, str]:
        """Take a signal that has come when it is too late to cancel.

        Where the reply is to end, the caller cancels the task of `run` with these words.

        Args:
            alone: Whether nobody is left who could ask again.

        Returns:
            What is to be done, and what to tell the user.
        """
        return self._ending.signal(self.handover.state, alone=alone)

    def still_asked(self, *, alone: bool = False) -> tuple[SignalReply, str] | None:
        """Look, from time to time after a signal, whether there is something new to tell.

        Args:
            alone: Whether nobody is left who could ask again.

        Returns:
            As `asked_to_end`; None: no news.
        """
        if self.can_cancel:
            return None
        return self._ending.look(self.handover.state, alone=alone)

    def attend(self) -> None:
        """Notice that this process runs, several times a second: see `common.termination`."""
        self._ending.attend()

    @property
    def is_well(self) -> bool:
        """Whether the destination answers, and nothing between the two is broken."""
        return self._ending.is_well

    def location_sentence(self, what: str) -> str:
        """Say what happened, and where the guest is if everything ends now.

        Args:
            what: What happened, in a few words.

        Returns:
            A sentence for the user.
        """
        return location_sentence(what, Who.USER, self._when)

    @property
    def exit_code(self) -> int:
        """The exit code if everything ends now because the user asked for it."""
        return TABLE[Who.USER, self._when].exit_code

    async def ask_again(self, timeout_s: float) -> messages.CommitOutcome | None:
        """Ask what became of the commit; also after the session's end.

        Args:
            timeout_s: How many seconds to ask.

        Returns:
            The answer; None where it is not known: see `no_answer`.
        """
        return await self._hand_over.ask_again(timeout_s)

    @property
    def no_answer(self) -> str:
        """For people: why it is not known what became of the commit."""
        return self._hand_over.no_answer

    def _notify(self, phase: str) -> None:
        self._phase = phase
        self._say(phase)

    def status(self) -> Status:
        """Return the state of this moment, for people; cheap.

        Returns:
            Everything but the rate.
        """
        status = Status(
            phase=self._phase,
            notice=self.notice,
            prediction=self.record.predicted.prediction,
            when=self._when,
        )
        status.total_bytes = self._context.connections.sent_bytes
        if self._ready is not None:
            rounds = self._ready.rounds
            status.round = len(rounds.done) + 1
            status.round_bytes = status.total_bytes - rounds.round_start_bytes
            status.round_expected = rounds.round_expected
            if rounds.done:
                status.dirty_ratio = rounds.done[-1].dirty_pages_after / self.config.guest.pages
        if self.record.times.start_ns:
            until_ns = self.record.times.completed_ns or time.monotonic_ns()
            status.elapsed_s = (until_ns - self.record.times.start_ns) / 1e9
        return status

    # -- the ways out -------------------------------------------------------------------------

    def _told(self, error: PageferryError) -> PageferryError:
        """Return what ended the session, once the guest has been seen to: it says where that is."""
        words = self.record.error or str(error)
        if self.handover.finished:
            return VerificationError(words)
        if self.record.outcome == "lost":
            return GuestLostError(words)
        if self.record.outcome == "in-doubt":
            return InDoubtError(words)
        error.args = (words,)
        return error

    @property
    def _when(self) -> When:
        started = self._guest is not None and self._guest.state != "new"
        when = when_of(Role.SOURCE, self.handover.state, started=started)
        return When.SENT if when is When.PARTLY and self._ending.unsent == 0 else when

    async def _undo(self, error: BaseException) -> None:
        """End the migration early; before the hand-over the guest goes on here."""
        cancelled = isinstance(error, asyncio.CancelledError | CancelledByUser)
        # A cancellation loses its message where it crosses work that is seen through.
        reason = str(error) or self._ending.given_up or "cancelled by the user"
        who = Who.USER if cancelled else Who.DEST
        if self._guest is not None and self._guest.failure is not None:
            who, reason = Who.SOURCE, str(self._guest.failure)  # a vCPU: it runs nowhere any more
        self._context.protocol.end_after_commit()
        when = self._when
        words = reason if isinstance(error, UsageError) else location_sentence(reason, who, when)
        self.record.ended(TABLE[who, when].outcome, words)
        if when not in (When.NOTHING, When.BEFORE):
            return
        await self._say_cancelled(reason)
        await self._settle()
        self._context.protocol.go_on_here(cancelled=cancelled)
        self._context.timeline.log("cancelled" if cancelled else "failed", reason=reason)
        if self._guest is not None and self.handover.may_run_guest and who is not Who.SOURCE:
            self.record.guest.goes_on = await resume_at_source(self._guest, self._context.timeline)

    async def _say_cancelled(self, reason: str) -> None:
        """Tell a destination that still listens, and has not been sent the commit."""
        connections = self._context.connections
        failure = connections.failure
        silent = failure is not None and not isinstance(failure, InternalError)
        if connections.connected and not silent and not self.handover.commit_sent:
            with contextlib.suppress(PageferryError, TimeoutError):
                async with asyncio.timeout(LAST_WORD_S):
                    await connections.control.send(messages.Cancel(reason=reason[:2000]))

    async def _close(self) -> None:
        context = self._context
        if self._ready is not None:
            await self._ready.sampler.stop()
        await context.connections.hang_up(self._settle)
        await context.exits.aclose()
        if self._guest is not None:
            self.record.guest.see(self._guest)
            if context.witness is not None and self.handover.may_run_guest:
                await context.worker.run(stop_and_digest, self._guest, context.timeline)
            if context.resident is None or self.handover.state in (State.COMPLETED, State.LOST):
                await context.worker.run(self._guest.close)
        context.worker.close()
