"""One migration, source end: from the connection to the verified digest.

The order of things, and who undoes what when one of them fails:

    connect, boot, set up      nothing runs yet; the destination forgets a session that ends
    warm up, rounds            the guest runs here; a failure or a cancel leaves it running
    stop                       the guest is paused here; a failure or a cancel resumes it
    commit sent                the guest stays paused here until the destination has answered
    follow-up                  the guest runs there; verification uses the paused copy

The hand-over state machine (`common.handover`) is asked before every step that matters.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pageferry.common.assumed_bandwidth import is_loopback
from pageferry.common.capacity.agents import source_descriptors
from pageferry.common.capacity.descriptors import check_descriptors
from pageferry.common.clock import Sample
from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import (
    CancelledByUser,
    ConnectionBroken,
    GuestLostError,
    InDoubtError,
    InternalError,
    PageferryError,
    PeerError,
    PeerRefused,
    UsageError,
    VerificationError,
)
from pageferry.common.guest.machine import Guest
from pageferry.common.guest.vcpu import vcpus_cpu_s
from pageferry.common.guest_location import TABLE, When, Who, sentence, told, when_of
from pageferry.common.handover import Handover, Role, State
from pageferry.common.inject import Plan, no_fault, parse_injection
from pageferry.common.process.aio import quit_task, see_through
from pageferry.common.process.status import Status
from pageferry.common.process.threads import failure_of
from pageferry.common.recovery import Recovery
from pageferry.common.strategy.base import NextRound, StopAndCopy, Strategy, SwitchToPostCopy
from pageferry.common.termination import Reply
from pageferry.common.timeline import Timeline
from pageferry.common.units import format_time
from pageferry.common.wire import bitmap, messages
from pageferry.common.wire.injector import Injector
from pageferry.common.wire.tls import ClientTls
from pageferry.source_agent.connection.connections import Links
from pageferry.source_agent.guest_thread import Worker
from pageferry.source_agent.measurements import Record
from pageferry.source_agent.postcopy.phase import Switched
from pageferry.source_agent.postcopy.serving import Serving
from pageferry.source_agent.postcopy.supply import Supply
from pageferry.source_agent.precopy.page_sender import Outflow
from pageferry.source_agent.precopy.rounds import FinalStop, Rounds
from pageferry.source_agent.precopy.throttling import Watcher
from pageferry.source_agent.prediction.predict import predict
from pageferry.source_agent.replay import replay
from pageferry.source_agent.report.plausibility import check_finished
from pageferry.source_agent.resident_guest import Resident
from pageferry.source_agent.rollback import go_on, testify
from pageferry.source_agent.setup import boot_guest, make_squeezer, setup_message, strategy_for
from pageferry.source_agent.termination_replies import Ending

SETUP_S = 600.0  # the destination may have to compile kernels and to map a large guest
FOLLOW_UP_S = 600.0  # beyond run_after: the digest of a large guest on a busy host
SAMPLE_S = 0.1
DEADLINE_SLACK_S = 0.002


class SourceSession:
    """Runs one migration of one guest; `run` returns when there is nothing left to wait for.

    `record` holds what was measured so far at any moment, also after a failure. resident: a guest
    that runs already; without one the guest is booted, and ends with the session.
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
        self._witness = witness
        self._secured = secure is not None
        self.record = Record(config, secrets.token_hex(16), timeline)
        self.handover = Handover("source")
        self._recovery = Recovery(config.recover_timeout)
        self._timeline = timeline
        self._say = say
        self._phase = "connecting"
        self._resident = resident
        self._guest: Guest | None = resident.guest if resident else None
        self._supply: Supply | None = None
        self._worker = Worker()
        self._sampler: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._limit: asyncio.Timeout | None = None
        self.notice: str | None = None
        self.no_answer = ""  # for people: why what became of the commit is not known
        plan = Plan([parse_injection(text) for text in config.inject])
        self._injector = Injector(plan, timeline, self._slow_down) if config.inject else None
        self._hit = self._injector.hit if self._injector else no_fault
        self._links = Links(
            config,
            address,
            self.record,
            self.handover,
            secure=secure,
            tap=self._injector,
            command="pageferry host" if resident else "pageferry dest",
        )
        self.record.windows = self._links.pacer.windows
        self._ending = Ending(self._links, self._recovery, config.recover_timeout)

    # -- life cycle ---------------------------------------------------------------------------

    async def run(self) -> None:
        """The whole of it. Raises what ended it early, when the guest has been seen to.

        Cancelling the task cancels the migration as long as the commit has not been sent.
        """
        try:
            await self._connect()
            await self._boot_and_set_up()
            await self._warm_up()
            await self._migrate_in_time()
            await self._follow_up()
        except (InDoubtError, GuestLostError) as error:
            lost = isinstance(error, GuestLostError)
            self.record.ended("lost" if lost else "in-doubt", str(error))
            raise
        except VerificationError as error:
            self.record.ended("completed", str(error))
            raise
        except (PageferryError, asyncio.CancelledError) as error:
            await see_through(self._undo(error))
            if not isinstance(error, PageferryError):
                if self.record.outcome in ("lost", "in-doubt"):  # given up, when it was too late
                    raise self._told(PageferryError()) from None
                raise
            if self.handover.finished and self._resident is not None:
                return  # it has moved, and what it did there is the other host's to say
            raise self._told(error) from error.__cause__
        except Exception as error:
            failure = failure_of(error)
            await see_through(self._undo(failure))
            raise self._told(failure) from error
        finally:
            await see_through(self._close())

    @property
    def can_cancel(self) -> bool:
        """Until the commit is on the wire, and again when only the verification is left."""
        return not self.handover.commit_sent or self.handover.finished

    def asked_to_end(self, *, alone: bool = False) -> tuple[Reply, str]:
        """A signal has come when it is too late to cancel: what is to be done, and said.

        Where it is to end, cancel the task of `run` with these words. alone: nobody is left who
        could ask again.
        """
        return self._ending.signal(self.handover.state, alone=alone)

    def still_asked(self, *, alone: bool = False) -> tuple[Reply, str] | None:
        """Likewise, from time to time after that; None: no news."""
        if self.can_cancel:
            return None
        return self._ending.look(self.handover.state, alone=alone)

    def attend(self) -> None:
        """To be called several times a second: see `common.termination`."""
        self._ending.attend()

    @property
    def is_well(self) -> bool:
        """Whether the destination answers, and nothing between the two is broken."""
        return self._ending.is_well

    def told(self, what: str) -> str:
        """What happened, and where the guest is if all ends now."""
        return sentence(what, Who.USER, self._when)

    @property
    def exit_code(self) -> int:
        """If all ends now, as a person has asked for."""
        return TABLE[Who.USER, self._when].exit_code

    async def _settle(self) -> None:
        """Wait until the worker is idle; a round that is under way is made to fail first."""
        self._links.abort()
        if self._guest is not None and self.handover.finished:
            self._guest.abandon_replay()
        await self._worker.idle()

    def _notify(self, phase: str) -> None:
        self._phase = phase
        self._say(phase)

    def status(self) -> Status:
        """This moment, for people; cheap."""
        status = Status(
            phase=self._phase,
            notice=self.notice,
            prediction=self.record.prediction,
            when=self._when,
        )
        status.total_bytes = self._links.sent_bytes
        rounds = self.record.rounds
        if rounds is not None:
            status.round = len(rounds.done) + 1
            status.round_bytes = status.total_bytes - rounds.round_start_bytes
            status.round_expected = rounds.round_expected
            if rounds.done:
                status.dirty_ratio = rounds.done[-1].dirty_pages_after / self.config.guest.pages
        if self.record.start_ns:
            until_ns = self.record.completed_ns or time.monotonic_ns()
            status.elapsed_s = (until_ns - self.record.start_ns) / 1e9
        return status

    # -- before the first page ----------------------------------------------------------------

    async def _connect(self) -> None:
        host, port = self._links.address
        self._timeline.log("connect", host=host, port=port)
        self.handover.step("start")
        what = f"a migration over {self.config.channels} channel(s)"
        check_descriptors(what, source_descriptors(self.config, tls=self._secured))
        await self._links.connect()
        self._hit("connected")

    def _slow_down(self, rate_Bps: float) -> None:
        """An injected fault: from now on pages leave at this rate at the most."""
        pacer = self._links.pacer
        pacer.rate = min(pacer.rate, rate_Bps)
        if self._supply is not None:
            self._supply.server.limit(pacer.rate)

    async def _boot_and_set_up(self) -> None:
        if self._guest is None:
            self._notify("booting the guest")
            self._guest = await self._worker.run(
                boot_guest, self.config, self._notify, self._witness
            )
            self._timeline.log("guest-booted", memory=self.config.memory)
        started = time.monotonic_ns()
        config, control, guest = self.config, self._links.control, self._guest
        await control.send(await self._worker.run(setup_message, config, guest, self._resident))
        self._notify("waiting for the destination to be ready")
        self.record.ready = await control.expect(messages.Ready, timeout_s=SETUP_S)
        self.record.squeezer = await self._worker.run(
            make_squeezer, config, guest.memory, self._timeline
        )
        if config.may_switch:
            rate = config.max_bandwidth
            supply = Supply, guest.memory, rate, config.checksum, self._links.tell
            self._supply = await self._worker.run(*supply)
        await self._links.open_channels(guest.memory, self._supply)
        self.record.clock_before = await control.sample_clock()
        self.record.rounds = await self._worker.run(self._make_rounds)
        self.handover.step("ready")
        self.record.setup_ns += time.monotonic_ns() - started
        self._timeline.log("set-up")
        self._hit("set-up")

    def _make_rounds(self) -> Rounds:
        return Rounds(
            self._live_guest(),
            self._links.outflow,
            self._timeline,
            self.config.max_bandwidth,
            self._clock_before().round_trip / 1e9,
            by_line=self.config.travels_by_line,
            hit=self._hit,
            squeezer=self.record.squeezer,
        )

    async def _warm_up(self) -> None:
        guest = self._live_guest()
        guest.watch(self._links.tell)
        if self._resident is None:
            await self._worker.run(guest.start)
        self.record.boot_progress = guest.progress()
        self.record.boot_cache = guest.cache_stats()
        await self._worker.run(guest.resume)
        self._timeline.log("guest-runs", where="source")
        self._sampler = asyncio.create_task(self._sample(), name="sampler")
        if self.config.warmup:
            self._notify("warming up")
            await self._sleep_unless_broken(self.config.warmup)
        if self.config.predict:
            await self._predict()

    async def _predict(self) -> None:
        self._notify("measuring the guest")
        self.record.predicting_ns = self._timeline.log("measuring")
        self.record.prediction = await predict(
            self.config,
            self._live_guest(),
            booted=self.record.boot_progress,
            rtt_s=self._clock_before().round_trip / 1e9,
            loopback=is_loopback(self._links.address[0]),
            blocking=self._worker.run,
            pause=self._sleep_unless_broken,
        )
        self._timeline.log("predicted", choice=self.record.prediction.choice)
        self._notify("predicted")  # what is said carries it

    async def _sleep_unless_broken(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._links.raise_failure()
            await asyncio.sleep(min(left, SAMPLE_S))

    async def _sample(self) -> None:
        """The guest's progress over time, until it stops."""
        guest = self._live_guest()
        while True:
            self.record.source_samples.append(guest.progress())
            await asyncio.sleep(SAMPLE_S)

    async def _stop_sampling(self) -> None:
        await quit_task(self._sampler)
        self._sampler = None

    # -- the migration ------------------------------------------------------------------------

    async def _migrate_in_time(self) -> None:
        """With `--timeout-action cancel`, until the commit is sent. Raises `CancelledByUser`."""
        config = self.config
        try:
            async with asyncio.timeout(None) as limit:
                self._limit = limit
                if config.timeout is not None and config.timeout_action == "cancel":
                    limit.reschedule(asyncio.get_running_loop().time() + config.timeout)
                await self._migrate()
        except TimeoutError:
            self._timeline.log("timeout", action=config.timeout_action)
            raise CancelledByUser(
                f"--timeout: cancelled after {format_time(config.timeout or 0)}, before the"
                " hand-over"
            ) from None

    async def _too_late_to_cancel(self) -> None:
        if self._limit is None:
            return
        if self._limit.expired():
            await asyncio.sleep(0)  # it has just passed: this is where the cancellation comes
        self._limit.reschedule(None)

    async def _migrate(self) -> None:
        guest = self._live_guest()
        await self._worker.run(guest.reset_gaps)
        counts = guest.write_counts() if self.config.count_writes else None
        if counts is not None:  # what the cache holds by now was written, and has yet to go back
            counts[0] -= np.bitwise_count(guest.cached_dirty())
        self.record.started(guest.progress(), vcpus_cpu_s(), counts)
        if self.config.dirty_limit is not None:
            await self._worker.run(guest.limit_dirty, self.config.dirty_limit)
        if self.config.dirty_tracker == "kernel":
            await self._worker.run(guest.track_by_kernel)  # one that ran here before is not tracked
            await self._worker.run(guest.harvest)  # it is from here on that writes are caught
        strategy = strategy_for(self.config)
        self.record.strategy = strategy
        rounds = self._live_rounds()
        with self._deadline():
            decision = await self._rounds(strategy, rounds)
        self._links.raise_failure()
        if isinstance(decision, StopAndCopy):
            await self._commit(await self._stop(rounds.stop))
        else:
            final = await self._stop(rounds.switch)
            await self._switch(final, decision.push)

    @contextlib.contextmanager
    def _deadline(self) -> Iterator[None]:
        """At `--timeout` the round that is under way is cut short, where it is to be the last."""
        config, outflow = self.config, self._links.outflow
        if config.timeout is None or config.timeout_action == "cancel":
            yield
            return
        # Not before the strategy would see it: the loop's clock is coarser than ours.
        delay_s = config.timeout - self._elapsed_s() + DEADLINE_SLACK_S
        timer = asyncio.get_running_loop().call_later(delay_s, self._on_deadline, outflow)
        try:
            yield
        finally:
            timer.cancel()
            outflow.cut_short(False)

    def _on_deadline(self, outflow: Outflow) -> None:
        self._timeline.log("timeout", action=self.config.timeout_action)
        outflow.cut_short(True)

    def _elapsed_s(self) -> float:
        return (time.monotonic_ns() - self.record.start_ns) / 1e9

    async def _rounds(self, strategy: Strategy, rounds: Rounds) -> StopAndCopy | SwitchToPostCopy:
        """Rounds until the strategy says stop, or switch."""
        decision = strategy.begin()
        watcher = strategy.within if strategy.looks else None
        self.record.decided(None, decision)
        while isinstance(decision, NextRound):
            self._notify(f"round {len(rounds.done) + 1}")
            sent = await self._send_round(rounds, decision, watcher)
            done = await self._links.control.expect(messages.RoundDone)
            if done.index != sent.index:
                raise PeerRefused(f"the destination ended round {done.index}, not {sent.index}")
            self._hit(f"after-round-{done.index}")
            stats = await self._worker.run(rounds.acknowledged, sent, self._elapsed_s())
            decision = strategy.decide(stats)
            self.record.decided(stats, decision)
        return decision

    async def _send_round(self, rounds: Rounds, order: NextRound, watcher: Watcher | None) -> Any:
        try:
            return await self._worker.run(rounds.send, order, watcher)
        except PageferryError:
            await asyncio.sleep(0)  # let the reader say why, where it knows more
            self._links.raise_failure()
            raise

    async def _stop(self, stop: Callable[[], FinalStop]) -> FinalStop:
        self._notify("handing over")
        await self._stop_sampling()
        self._hit("before-pause")
        self.handover.step("pause")
        try:
            final = await self._worker.run(stop)
        except PageferryError:
            await asyncio.sleep(0)
            self._links.raise_failure()
            raise
        self._links.raise_failure()
        return final

    async def _commit(self, final: FinalStop) -> None:
        """The one step that can't be undone."""
        self._hit("before-commit")
        await self._too_late_to_cancel()
        # From before the first byte: whether a broken write reached the peer, nobody knows.
        self.handover.step("commit_sent")
        resumed_ns = await self._send_commit(final, push=True)
        if resumed_ns is None:
            raise ConnectionBroken("the connection was lost with the answer to the commit")

    async def _send_commit(self, final: FinalStop, *, push: bool) -> int | None:
        """When the destination resumed, on its clock; None where it was asked over a new one."""
        self._timeline.log("commit-sent")
        self.record.final = final
        missing = final.missing
        if missing is not None and len(missing) >= bitmap.WORTH:
            missing = await self._worker.run(bitmap.shorten, missing)
        commit = messages.Commit(
            barrier=len(self._live_rounds().done),
            snapshot=final.snapshot,
            missing=missing,
            push=push,
        )
        try:
            control = self._links.control
            await control.send(commit)
            self._hit("commit-sent")
            if final.round is not None:
                await control.expect(messages.RoundDone)
            resumed = await control.expect(messages.Resumed)
        except PeerRefused:
            # It says so only where it would answer "never": see rule 4 of the hand-over.
            self.handover.peer("never")
            raise
        except PageferryError as error:
            self._resumed(final, await self._inquire(error))
            return None
        self.handover.peer("resumed")
        self._resumed(final, resumed.t_ns)
        self._hit("resumed-there")
        return resumed.t_ns

    def _resumed(self, final: FinalStop, resumed_ns: int | None) -> None:
        self.record.resumed_peer_ns = resumed_ns
        self._timeline.log("resumed-there")
        self.record.see(self._live_guest())
        if final.round is not None:
            final.round.end_ns = time.monotonic_ns()
            self._live_rounds().activity.settle(final.round.end_ns)
        if self.handover.finished:
            self._completed()

    def _completed(self) -> None:
        self.record.completed(vcpus_cpu_s())
        self._timeline.log("completed")

    async def _inquire(self, error: PageferryError) -> int | None:
        """The answer to the commit was lost: ask what became of it; when the guest resumed.

        None: it is about to. Raises where the destination does not run it. Where pages are to
        follow, the outage has begun, and this is a part of it.
        """
        self.handover.step("connection_lost")
        self._recovery.broke(self._links.attempt, asyncio.get_running_loop().time())
        self._timeline.log("inquire", why=str(error))
        self._notify("the destination's answer was lost: asking again")
        answer = await self.ask_again(self.config.recover_timeout)
        if answer is None:
            self.handover.step("gave_up")
            what = f"the commit was sent, and its answer was lost ({error}; then {self.no_answer})"
            raise told(what, Who.DEST, When.COMMITTED)
        self.handover.peer(answer.answer)
        if answer.answer == "running":
            return answer.resumed_ns
        if answer.answer == "unknown":
            raise PeerRefused(
                f"the destination has no such session, as after a restart ({error}), and takes"
                " nothing up"
            )
        raise PeerRefused(f"the destination never got the whole commit ({error})")

    async def ask_again(self, timeout_s: float) -> messages.Outcome | None:
        """What became of the commit; None where that is not known. Also after the session's end."""
        answered = await self._links.ask_outcome(timeout_s)
        where = self._links.where
        if answered is None:
            self.no_answer = f"{where} could not be asked"
            return None
        answer = answered.outcome
        if answer.answer == "unknown" and not self.record.had_session(answer, answered.sample):
            # Who knows nothing of a session and never had it proves nothing.
            self.no_answer = f"it is another host, or a new boot of it, that answers at {where}"
            return None
        if answer.answer == "unknown" and self._resident is not None:
            # A guest that stays there may have been moved on before its host was started again.
            self.no_answer = f"{where} was started again and has forgotten"
            return None
        return answer

    # -- post-copy ----------------------------------------------------------------------------

    async def _switch(self, final: FinalStop, push: bool) -> None:
        """Resume there first, then send what is missing, until nothing is."""
        supply = self._live_supply()
        self._hit("before-commit")
        if supply.server.failure is not None:  # until now nothing is lost by that
            raise supply.server.failure
        await self._too_late_to_cancel()
        self.handover.step("postcopy_commit_sent")
        resumed_ns = await self._send_commit(final, push=push)
        await self._worker.run(self._live_rounds().flush)
        missing = bitmap.unpack(final.missing or b"", self.config.guest.pages)
        supply.set_missing(missing)
        switched = self._switched(supply)
        if self._injector is not None:
            watching = switched.watch_share(self._injector, int(missing.sum()))
            self._watcher = asyncio.create_task(watching)
        self._live_rounds().activity.switched(missing)
        self._ending.switched(supply, int(missing.sum()))
        lost = ConnectionBroken("the answer to the commit was lost") if resumed_ns is None else None
        finished = await switched.run(push=push, broken=lost)
        self.handover.peer("complete")
        self._recovery.settled()
        self._completed()
        if finished is not None:
            self.record.finished = self._believed(finished)

    def _switched(self, supply: Supply) -> Switched:
        serving = Serving(
            self._links,
            supply,
            self._live_guest().memory,
            self._worker,
            hit=self._hit,
            settle=self._settle,
        )
        return Switched(serving, self._recovery, self.handover, self._timeline, self._notify)

    # -- after the hand-over ------------------------------------------------------------------

    async def _follow_up(self) -> None:
        """Wait for the guest's run at the destination; compare it with a replay of our copy."""
        control = self._links.control
        # The result may be here although its sender has gone, as after a pause of this process.
        with contextlib.suppress(PeerError):
            self.record.clock_after = await control.sample_clock()
        self._notify("the guest runs at the destination")
        finished = self.record.finished or self._believed(
            await control.expect(messages.Finished, timeout_s=self.config.run_after + FOLLOW_UP_S)
        )
        self.record.finished = finished
        self._hit("before-bye")
        with contextlib.suppress(PeerError):
            await control.send(messages.Bye())
        self._hit("verifying")
        if self.config.verify:
            self._notify("verifying: replaying the guest")
            self.record.digest_source = await self._worker.run(replay, self._live_guest(), finished)
        self.record.ended("completed", None)
        if self.record.verified is False:
            raise VerificationError(
                "the guest's memory at the destination differs from its replay at the source:"
                f" {finished.digest} there, {self.record.digest_source} here"
            )
        if finished.check is not None:
            raise VerificationError(f"the guest's own check failed: {finished.check}")

    def _believed(self, finished: messages.Finished) -> messages.Finished:
        """Raises `RemoteProtocolError` for what can't be so."""
        return check_finished(self.record, finished, self._live_guest().steps())

    # -- the ways out -------------------------------------------------------------------------

    def _told(self, error: PageferryError) -> PageferryError:
        """What ended the session, once the guest has been seen to: it says where that is."""
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
        """The migration ended before the hand-over: the guest goes on here."""
        cancelled = isinstance(error, asyncio.CancelledError | CancelledByUser)
        # A cancellation loses its words where it crosses work that is seen through.
        reason = str(error) or self._ending.given_up or "cancelled by the user"
        who = Who.USER if cancelled else Who.DEST
        if self._guest is not None and self._guest.failure is not None:
            who, reason = Who.SOURCE, str(self._guest.failure)  # a vCPU: it runs nowhere any more
        if self.handover.commit_sent and not self.handover.ended:
            # Nothing that the source does by itself may end it here: see rule 3 of the hand-over.
            running_there = self.handover.state is State.POSTCOPY_ACTIVE
            self.handover.step("failure" if running_there else "gave_up")
        when = self._when
        words = reason if isinstance(error, UsageError) else sentence(reason, who, when)
        if when not in (When.NOTHING, When.BEFORE):
            self.record.ended(TABLE[who, when].outcome, words)
            return
        links = self._links
        silent = links.failure is not None and not isinstance(links.failure, InternalError)
        if links.connected and not silent and not self.handover.commit_sent:
            with contextlib.suppress(PageferryError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await links.control.send(messages.Cancel(reason=reason[:2000]))
        await self._settle()
        self.handover.step("cancel" if cancelled else "failure")
        self._timeline.log("cancelled" if cancelled else "failed", reason=reason)
        self.record.ended(TABLE[who, when].outcome, words)
        if self._guest is not None and self.handover.may_run_guest and who is not Who.SOURCE:
            self.record.goes_on = await go_on(self._guest, self._timeline)

    async def _close(self) -> None:
        await self._stop_sampling()
        await quit_task(self._watcher)
        await self._links.hang_up(self._settle)
        if self.record.squeezer is not None:
            await self._worker.run(self.record.squeezer.close)
        if self._supply is not None:
            self.record.supplied(self._supply)
            await self._worker.run(self._supply.close)
        if self._guest is not None:
            self.record.see(self._guest)
            if self._witness is not None and self.handover.may_run_guest:
                await self._worker.run(testify, self._guest, self._timeline)
            if self._resident is None or self.handover.state in (State.COMPLETED, State.LOST):
                await self._worker.run(self._guest.close)
        self._worker.close()

    # -- parts that exist from some moment on ---------------------------------------------------

    def _live_guest(self) -> Guest:
        assert self._guest is not None  # noqa: S101
        return self._guest

    def _live_supply(self) -> Supply:
        assert self._supply is not None  # noqa: S101
        return self._supply

    def _live_rounds(self) -> Rounds:
        assert self.record.rounds is not None  # noqa: S101
        return self.record.rounds

    def _clock_before(self) -> Sample:
        assert self.record.clock_before is not None  # noqa: S101
        return self.record.clock_before
