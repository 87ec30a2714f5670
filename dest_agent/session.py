"""One migration, destination end: from Setup to the digest of a guest that ran here.

Each phase is a coroutine that ends in the next one or raises:

    _prepare    Setup -> memory, kernels, Ready; a refusal ends the session
    _receive    rounds come in; only a whole commit ends it well, all else means "never"
    _resume     the whole commit is here: from now on this side runs the guest
    _follow_up  the guest runs for as long as the source asked, is stopped, its digest sent

All that can happen, on whatever thread, comes through one queue, so that it happens in one order.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pageferry.common.capacity.agents import dest_descriptors
from pageferry.common.config.model import Compression
from pageferry.common.errors import (
    CancelledByUser,
    ConnectionBroken,
    GuestLostError,
    InternalError,
    PageferryError,
    PeerRefused,
    PeerSilent,
    RemoteProtocolError,
    UsageError,
)
from pageferry.common.guest.machine import Guest, Progress, compile_kernels
from pageferry.common.guest.vcpu import vcpus_cpu_s
from pageferry.common.guest_location import When, Who, sentence, told, when_of
from pageferry.common.handover import Handover, Role, State
from pageferry.common.inject import Plan, no_fault
from pageferry.common.process.aio import quit_task, see_through, to_loop
from pageferry.common.process.threads import failure_of
from pageferry.common.recovery import Phase, Recovery
from pageferry.common.termination import AGAIN, GIVEN_UP, Insisting, Reply
from pageferry.common.timeline import Timeline
from pageferry.common.units import format_size, format_time
from pageferry.common.wire import bitmap, messages
from pageferry.common.wire.budget import Budget
from pageferry.common.wire.channel import STALL_S, Connection
from pageferry.common.wire.inbox import Inbox
from pageferry.common.wire.injector import Injector
from pageferry.common.wire.messages import Message
from pageferry.common.wire.results import WireBeats, WireCache, WireEvent, WireSample
from pageferry.dest_agent.admission import MemoryBudget
from pageferry.dest_agent.guest_keeper import Keeper, Place
from pageferry.dest_agent.postcopy.fetching import (
    Broke,
    FaultsMoved,
    Fetching,
    Offered,
    Shown,
    Stands,
    come_late,
)
from pageferry.dest_agent.postcopy.monitor import Postcopy
from pageferry.dest_agent.precopy.page_placer import GuestPlacer
from pageferry.dest_agent.precopy.page_receiver import Inflow, PagePlacer

_T = TypeVar("_T")

SETUP_S = 600.0  # from Hello to Setup: the source boots its guest in between
BYE_S = 600.0  # the source replays the guest before it says goodbye
SAMPLE_S = 0.1
LAST_WORDS_S = 0.1
OFFER_BYTES = 128 * 1024  # of a connection that waits, the kernel's buffers left out
SHARE_S = 0.002  # how often injected faults look at what post-copy has brought


@dataclass(frozen=True, slots=True)
class BarrierReached:
    """Every bulk channel has ended this round."""

    index: int
    t_ns: int


Item = Message | BarrierReached | FaultsMoved | Broke | Offered | Stands | Shown


class DestSession:
    """Receives one guest and runs it.

    enter: asked, with the session's id, when it is known which guest will come; raises
    `PageferryError` where there is no room. keeper: whom a guest is left to that stays; None:
    nobody.
    """

    def __init__(
        self,
        session: str,
        connection: Connection,
        timeline: Timeline,
        say: Callable[[str], None],
        expected_memory: int | None,
        budget: MemoryBudget,
        enter: Callable[[str, messages.Setup], None],
        keeper: Keeper | None = None,
        plan: Plan | None = None,
        witness: Path | None = None,
    ) -> None:
        self.session = session
        self.handover = Handover("dest")
        self.resumed_ns: int | None = None
        self.said_bye = False
        self.set_up = False  # it has been said which guest will come, and there is room for it
        self.descriptors_due = 0  # that it will open, while its connections do not stand
        self.dropped = False
        self.seen_through = False  # the agent was to end when pages of its guest were missing
        self.had_its_run = False  # nobody has cut it short
        self._stopping = asyncio.Event()
        self._insisting = Insisting(time.monotonic())
        self._task: asyncio.Task[Any] | None = None
        self._run_limit: asyncio.Timeout | None = None
        self._enter = enter
        self.may_be_asked = False
        self.place = Place(keeper, session, budget)
        self._n_pages = 0
        self._congestion: str | None = None
        self._tls = connection.peer_certificate is not None
        self._connection = connection
        self._recovery = Recovery(STALL_S, connection.attempt)  # until the setup says how long
        self._timeline = timeline
        self._say = say
        self._expected_memory = expected_memory
        self._budget = budget
        self._guest: Guest | None = None
        self._inflow: Inflow | None = None
        self._loop = asyncio.get_running_loop()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="session")
        self._held = Budget()  # by what the source sends and has not been dealt with
        self._inbox: Inbox[Item] = Inbox(self._held)
        self._postcopy: Postcopy | None = None
        self._offers: Inbox[Offered] = Inbox(self._held)  # when nothing is missing any more
        self._channels = 1
        self._checked = True
        self._compress: Compression = "none"
        self._deltas = False
        self._unpack_cpu_s = 0.0  # of connections that have gone
        self._came_back = asyncio.Event()
        self._failure: PageferryError | None = None  # of a thread of ours
        self._tell = to_loop(self._thread_failed)
        self._fetched = self._closing = self._stopped_here = False
        self._over: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._samples: list[Progress] = []
        self._cpu_start = self._cpu_s = 0.0
        self._witness = witness
        self.injector = Injector(plan, timeline) if plan is not None else None
        self.hit = self.injector.hit if self.injector else no_fault
        connection.tap(self.injector)

    # -- life cycle ---------------------------------------------------------------------------

    async def run(self) -> None:
        """From Welcome to Bye. Raises what ended the session early, after telling the source."""
        self._listen()
        self._task = asyncio.current_task()
        try:
            setup = await self._prepare()
            commit = await self._receive()
            await self._resume(commit)
            await self._follow_up(setup, commit)
        except PageferryError as error:
            await see_through(self._give_up(error))
            raise
        except asyncio.CancelledError:
            self._stopped_here = True
            stopped = CancelledByUser("the destination agent was stopped")
            await see_through(self._give_up(stopped))
            raise
        except Exception as error:
            failure = failure_of(error)
            await see_through(self._give_up(failure))
            raise failure from error
        finally:
            if self.injector is not None:
                self.injector.close()
            await see_through(self._close())

    async def _read(self, connection: Connection, attempt: int) -> None:
        """Clock samples are answered at once; everything else waits its turn."""
        try:
            while True:
                message = await connection.receive()
                if isinstance(message, messages.Ping):
                    answer = messages.Pong(t_ns=message.t_ns, peer_ns=time.monotonic_ns())
                    await connection.send(answer)
                else:
                    await self._inbox.take_in(message, connection.take_over())
        except Exception as error:  # noqa: BLE001 - who waits for a message must hear of it
            self._inbox.put_nowait(Broke(attempt, failure_of(error)))

    def _listen(self) -> None:
        """To the present attempt's control connection."""
        self._connection.charge(self._held)
        reading = self._read(self._connection, self._recovery.attempt)
        self._reader = asyncio.create_task(reading, name="control-reader")

    def _fail(self, error: PageferryError) -> None:
        """The session ends, or begins to recover, by that."""
        self._inbox.put_nowait(Broke(self._recovery.attempt, error))

    def _thread_failed(self, error: PageferryError) -> None:
        """A thread of ours is no more, whatever the session is at."""
        self._failure = error
        self._fail(error)
        self._came_back.set()  # who waits for nothing else looks

    async def _next(self) -> Message | BarrierReached:
        """A message or a barrier; what breaks the present attempt's connections is raised."""
        item = await self._inbox.get()
        while isinstance(item, FaultsMoved | Offered | Stands | Shown) or (
            isinstance(item, Broke) and item.attempt != self._recovery.attempt
        ):
            item = await self._inbox.get()  # left over from when pages were missing
        if isinstance(item, Broke):
            item = await self._last_words(item.error)
        if isinstance(item, messages.Cancel):
            raise CancelledByUser(f"the source cancelled: {item.reason}")
        return item

    async def _last_words(self, error: PageferryError) -> messages.Cancel:
        """What a source says whose connection has broken; raises `error` where it says nothing.

        One that cancels says so on one connection and closes the others: which of it comes here
        first is chance.
        """
        if isinstance(error, ConnectionBroken):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS_S):
                    while True:
                        if isinstance(item := await self._inbox.get(), messages.Cancel):
                            return item
        raise error

    async def _blocking(self, function: Callable[..., _T], *args: Any) -> _T:
        return await self._loop.run_in_executor(self._worker, function, *args)

    async def _give_up(self, error: PageferryError) -> None:
        """Tell the source; before the whole commit is here, never resume from now on."""
        if self.handover.may_run_guest:
            return
        cancelled = isinstance(error, CancelledByUser)
        # Only a source whose connection broke while it might have sent its commit will come to ask.
        lost = isinstance(error, ConnectionBroken)
        self.may_be_asked = lost and self.handover.state is State.ACTIVE
        self.handover.step("cancel" if cancelled else "failure")
        self.place.dismiss()
        self._timeline.log("failed", reason=str(error))
        if not lost and (self._stopped_here or not cancelled):
            kind = messages.Refuse if isinstance(error, UsageError) else messages.Failed
            with contextlib.suppress(PageferryError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._connection.send(kind(reason=str(error)[:2000]))

    async def _close(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader
        if self._inflow is not None:
            await self._loop.run_in_executor(None, self._inflow.close)
        # Bulk connections are closed first: linger() waits for the source to close its end.
        await self._connection.linger()
        self._closing = True  # no pause of a lazy copy's guest begins from here on
        if self._postcopy is not None:
            await self._blocking(self._release_pages)
        if self._over is not None:  # one that had begun ends now, and must, before the guest does
            await asyncio.gather(self._over, return_exceptions=True)
        if self._guest is not None:
            await self._blocking(self._release_guest)
        self.place.dismiss()
        self._worker.shutdown(wait=True)

    def _release_pages(self) -> None:
        if self._postcopy is not None:
            lost = self._postcopy.close()
            if lost and self.handover.may_run_guest and not self.handover.finished:
                self.handover.step("failure")

    def _release_guest(self) -> None:
        if self._guest is not None:
            self._guest.stop()
            self._guest.close()

    async def _leave(self) -> None:
        """The guest stays, and from now on this session has nothing to do with it."""
        if self._postcopy is not None:
            await self._blocking(self._postcopy.faults.close)
        if not self._fetched:  # else pages that come twice are still on their way: to nowhere
            await self._loop.run_in_executor(None, self._live_inflow().close)
        guest, self._guest = self._live_guest(), None
        guest.watch(None)
        self.place.keep(guest)

    @property
    def network(self) -> str:
        """Where its source is: see `Connection.network`."""
        return self._connection.network

    @property
    def when(self) -> When:
        """How far its hand-over has come, or had."""
        return when_of(Role.DEST, self.handover.state, started=self.set_up)

    def told(self, error: PageferryError) -> PageferryError:
        """What ended the session, and where the guest is then."""
        if isinstance(error, UsageError | GuestLostError):
            return error  # bad usage of others, or it says so
        if self.when in (When.PARTLY, When.WHOLE):
            return told(str(error), Who.PEER, self.when)
        error.args = (sentence(str(error), Who.PEER, self.when),)
        return error

    def stop(self, *, alone: bool = False) -> str | None:
        """A signal asks the agent to end. What a person must know of it; None: nothing.

        Before the whole commit is here the session ends, and its source is told. A guest that runs
        here gets the pages that it lacks; one that is whole runs no further, and its source gets
        the result. Whoever asks again is heard where the source is not (`common.termination`), and
        where nothing is missing. alone: nobody is left who could ask again.
        """
        if not self.handover.may_run_guest:
            self._end()
            return None
        first = not self._stopping.is_set()
        self._stopping.set()
        limit = self._run_limit
        if limit is not None and limit.when() is not None and not limit.expired():
            limit.reschedule(self._loop.time())
        reply = self._insisting.signal(time.monotonic(), self._trouble_s(), alone=alone)
        if self.when is not When.PARTLY:
            return self._replied_whole(reply if first else Reply.END)
        self.seen_through |= first
        return self._replied(reply)

    def still_asked(self, *, alone: bool = False) -> str | None:
        """Likewise, from time to time after that."""
        self._insisting.attend(time.monotonic())
        if not self.handover.may_run_guest:
            return None
        reply = self._insisting.look(self._trouble_s(), alone=alone)
        if reply is None:
            return None
        return self._replied(reply) if self.when is When.PARTLY else self._replied_whole(reply)

    @property
    def may_be_ended(self) -> bool:
        """Whether nothing would be lost by that that could be had."""
        return self.when is not When.PARTLY or self._trouble_s() is not None

    @property
    def lacks(self) -> str:
        """What a guest lacks that has ended here or ends now; empty where nothing."""
        if self.when is not When.PARTLY or self._postcopy is None or not self._n_pages:
            return ""
        missing = self._postcopy.faults.missing_count
        return f": {missing:,} of {self._n_pages:,} pages of it are missing"

    def _trouble_s(self) -> float | None:
        if self.said_bye:
            return None
        now_s = time.monotonic()
        heard_s = self._connection.heard_at
        return self._insisting.trouble_s(self._recovery.began_s, heard_s, now_s)

    def _replied_whole(self, reply: Reply) -> str | None:
        """Likewise where nothing is missing: the source alone is waited for, with the result."""
        if reply is Reply.END:
            self._end()
        if reply is not Reply.STAKE:
            return None
        left_s = self._connection.patience_s + (self._recovery.limit_s if self._fetched else 0.0)
        return (
            "the guest is whole here, and its source does not answer: it is waited for at most"
            f" another {format_time(round(left_s, 1))}, until it has the result; {AGAIN}"
        )

    def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _replied(self, reply: Reply) -> str:
        missing = self._live_postcopy().faults.missing_count
        if reply is Reply.END:
            self._end()
            return f"{GIVEN_UP}{self.lacks}"
        if reply is Reply.SEEN_THROUGH:
            left_s = self._live_postcopy().left_s()
            takes = "" if left_s is None else f", which takes about {format_time(round(left_s, 1))}"
            return (
                f"the guest runs here, and {missing:,} pages of it are missing: that is seen"
                f" through, or it would be lost{takes}"
            )
        left = format_time(round(self._recovery.left_s(time.monotonic()), 1))
        return (
            f"the source does not answer, {missing:,} pages of the guest are missing, and it is"
            f" lost if this ends now. It is waited for another {left}; {AGAIN}"
        )

    def drop(self, reason: str) -> None:
        """End it, which has nothing yet."""
        self.dropped = True
        self._fail(PeerRefused(reason))

    def cut(self) -> None:
        """It is on its way out, and is not to wait for its peer."""
        self._connection.abort()

    # -- phases -------------------------------------------------------------------------------

    async def _prepare(self) -> messages.Setup:
        try:
            async with asyncio.timeout(SETUP_S):
                setup = await self._next()
        except TimeoutError:
            raise PeerSilent(f"no setup came within {SETUP_S:.0f} s") from None
        if not isinstance(setup, messages.Setup):
            raise RemoteProtocolError("something else came before the setup")
        self.handover.peer("setup")
        self.hit("setup-received")
        self._congestion = setup.congestion
        self._connection.use_congestion(setup.congestion)
        if setup.keep is not None:
            self.place.admit(setup.keep)
        self._admit(setup)
        self._connection.limit(most_control(setup.guest.pages))
        self._say(f"preparing for a guest of {format_size(setup.guest.memory)}")
        guest = self._guest = await self._blocking(self._make_guest, setup)
        self._n_pages = guest.n_pages
        guest.watch(self._tell)
        await self._blocking(guest.start)  # paused: what is left for later is to wake the threads
        self._placer = GuestPlacer(guest.memory, deltas=setup.delta != "none")
        if setup.expected is not None:
            expected = bitmap.expand(setup.expected, guest.n_pages)
            await self._blocking(self._placer.expect, expected)
        self._channels = setup.channels
        self._checked = setup.checksum
        self._compress, self._deltas = setup.compress, setup.delta != "none"
        self._inflow = self._new_inflow(self._placer.channel)
        ready = messages.Ready()
        if setup.postcopy is not None:
            self._recovery = Recovery(setup.postcopy.recover_timeout, self._recovery.attempt)
            self._postcopy = await self._blocking(Postcopy, guest, setup.postcopy, setup.checksum)
            mechanism = self._postcopy.mechanism
            ready = messages.Ready(faults=mechanism.name, faults_reason=mechanism.reason)
        self._timeline.log("ready")
        self._cpu_start = time.process_time() - vcpus_cpu_s()
        self.hit("ready")
        await self._connection.send(ready)
        self.handover.step("ready")
        return setup

    def _admit(self, setup: messages.Setup) -> None:
        size = setup.guest.memory
        if self._expected_memory not in (None, size):
            raise UsageError(
                f"guest size mismatch: the source has a guest of {format_size(size)},"
                f" this destination takes {format_size(self._expected_memory or 0)}"
            )
        self._enter(self.session, setup)
        self.descriptors_due = dest_descriptors(setup.channels, setup.guest.vcpus, tls=self._tls)
        self.set_up = True

    def _make_guest(self, setup: messages.Setup) -> Guest:
        try:
            compile_kernels(setup.guest, self._say)
            nice, witness = setup.vcpu_nice, self._witness
            return Guest(setup.guest, boot=False, vcpu_nice=nice, witness=witness)
        except UsageError as error:
            if not setup.guest.workload.startswith("trace:"):
                raise
            # A peer names a file of ours: what is there, or why not, is not for it to know.
            self._say(str(error))
            raise UsageError(
                "the trace that this guest replays can't be had at the destination, whose log"
                " says why"
            ) from None

    def _new_inflow(self, make_placer: Callable[[], PagePlacer]) -> Inflow:
        attempt = self._recovery.attempt

        def on_failure(error: PageferryError) -> None:
            self._loop.call_soon_threadsafe(self._inbox.put_nowait, Broke(attempt, error))

        return Inflow(
            make_placer,
            self._live_guest().n_pages,
            self._channels,
            self._on_barrier,
            on_failure,
            self._held,
            checked=self._checked,
            attempt=attempt,
            tap=self.injector,
            compress=self._compress,
            deltas=self._deltas,
        )

    def attach(self, hello: messages.Hello, connection: Connection) -> None:
        """A bulk or urgent connection. Raises `RemoteProtocolError` where none is due."""
        attempt = self._recovery.attempt
        if not self._recovery.admits(hello.attempt):
            raise RemoteProtocolError(
                f"a {hello.role} connection of attempt {hello.attempt}, and {attempt} is"
                f" {self._recovery.phase}"
            )
        if self._congestion is not None:
            connection.use_congestion(self._congestion)
        connection.tap(self.injector)
        if hello.role == "urgent":
            if self._postcopy is None:
                raise RemoteProtocolError("an urgent connection of a session without post-copy")
            self._postcopy.attach(connection.detach_urgent(self._tell), hello.attempt)
        elif self._inflow is None:
            raise RemoteProtocolError("a bulk channel came before the setup")
        else:
            self._inflow.attach(hello.channel, connection.detach())
        inflow, postcopy = self._inflow, self._postcopy
        if inflow and postcopy and inflow.is_whole and postcopy.has_urgent:
            self._inbox.put_nowait(Stands(attempt))
        if inflow and inflow.is_whole and (postcopy is None or postcopy.has_urgent):
            self.descriptors_due = 0

    def _on_barrier(self, index: int, t_ns: int) -> None:
        self._loop.call_soon_threadsafe(self._inbox.put_nowait, BarrierReached(index, t_ns))

    async def _receive(self) -> messages.Commit:
        commit: messages.Commit | None = None
        passed = 0
        while commit is None or passed != commit.barrier:
            item = await self._next()
            if isinstance(item, BarrierReached):
                passed = item.index
                self._timeline.log("round-received", t_ns=item.t_ns, round=passed)
                self.hit(f"round-{passed}-received")
                if passed == 1:
                    await self._blocking(self._placer.forget_unwritten)
                done = messages.RoundDone(index=passed, t_ns=item.t_ns)
                await self._connection.send(done)
            elif isinstance(item, messages.Commit) and commit is None and item.barrier >= passed:
                self._timeline.log("commit-received")
                if self.place.awaited and not item.push:
                    raise RemoteProtocolError("a guest that is to stay would lack pages for ever")
                commit = item
            else:
                raise RemoteProtocolError(f"{type(item).__name__} out of turn")
        self.hit("commit-received")
        return commit

    # -- post-copy ----------------------------------------------------------------------------

    async def _fetch(self, limit_s: float | None) -> None:
        """Until no page is missing; where nothing is pushed, until it has run for `limit_s`."""
        postcopy = self._live_postcopy()
        faults = postcopy.faults
        self._fetched = True
        watcher = self._loop.create_task(self._watch_share(), name="shares")
        self._loop.add_reader(faults.event_fd, self._on_faults)
        over = self._loop.create_task(self._pause_after(limit_s)) if limit_s is not None else None
        self._over = over
        try:
            await self._fetching(over).run()
            if over is not None and not over.done():
                over.cancel()
                await asyncio.wait({over})  # two must not ask something of the guest at once
        finally:
            self._loop.remove_reader(faults.event_fd)
            await quit_task(watcher)
            if over is not None:
                over.cancel()
        if faults.missing_count:
            return  # lazy copy: the source keeps what the guest never touched
        t_ns = self._timeline.log("all-pages-present")
        self._live_inflow().complete = True
        await self._blocking(faults.disarm)
        self._cpu_s = time.process_time() - self._cpu_start - vcpus_cpu_s()
        self.handover.step("complete")
        self.hit("before-complete")
        with contextlib.suppress(ConnectionBroken):
            await self._connection.send(messages.Complete(t_ns=t_ns))

    def _fetching(self, over: asyncio.Task[None] | None) -> Fetching:
        return Fetching(
            _Stream(self),
            self._live_postcopy().faults,
            self._recovery,
            self.handover,
            self._timeline,
            self._inbox,
            self._live_guest().n_pages,
            self._say,
            over=lambda: over is not None and over.done(),
        )

    async def _pause_after(self, seconds: float) -> None:
        """Stop a lazy copy's guest, which may have to wait for a page, and that for a recovery."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        paused = False
        while not paused and not self._closing:
            try:
                # Not on the worker, which a recovery needs meanwhile.
                await see_through(self._pause_aside())
                paused = True
            except InternalError:
                return  # that vCPU never will: the session has been told
            except PageferryError:  # no answer yet
                continue
        self._inbox.put_nowait(FaultsMoved())  # whoever watches looks again

    async def _pause_aside(self) -> None:
        await asyncio.to_thread(self._live_guest().pause)

    async def _watch_share(self) -> None:
        """Tell injected faults when so much of the missing pages is in place."""
        faults = self._live_postcopy().faults
        total = max(faults.missing_count, 1)
        while self.injector is not None:
            if not self.injector.hit_share(1 - faults.missing_count / total):
                return
            await asyncio.sleep(SHARE_S)

    def _on_faults(self) -> None:
        self._live_postcopy().faults.clear_event()
        self._inbox.put_nowait(FaultsMoved())

    async def _drop_connections(self) -> None:
        """Every connection and thread of the present attempt is gone."""
        await quit_task(self._reader)
        self._connection.close()
        await self._loop.run_in_executor(None, self._live_inflow().close)
        await self._blocking(self._live_postcopy().disconnect)

    def _adopt(self, connection: Connection) -> None:
        """The source is back on this one, which `_recovery` knows."""
        self._connection = connection
        connection.limit(most_control(self._n_pages))
        connection.tap(self.injector)
        self.hit("recovering")
        self._listen()

    def _adopt_stream(self, connection: Connection) -> None:
        self._adopt(connection)
        self._unpack_cpu_s += self._live_inflow().unpack_cpu_s
        self._inflow = self._new_inflow(self._live_postcopy().faults.staging)

    async def _resync(self, missing: NDArray[np.bool_]) -> None:
        await self._connection.send(messages.Resync(missing=bitmap.pack(missing)))

    async def _adopt_late(self) -> bool:
        """A source that missed that everything had arrived."""
        await quit_task(self._reader)
        self._connection.close()
        self._came_back.clear()
        connection = await come_late(self._recovery, self.handover, self._offers)
        if connection is None:
            return False
        self._adopt(connection)
        with contextlib.suppress(ConnectionBroken):
            await self._resync(np.zeros(self._n_pages, np.bool_))
            await self._connection.send(messages.Complete(t_ns=time.monotonic_ns()))
        return True

    def _take_late_offers(self) -> None:
        """A source that came back while the last pages did has its turn later."""
        items = [self._inbox.get_nowait() for _ in range(self._inbox.qsize())]
        for item in items:
            if isinstance(item, Offered):
                self.offer(item.connection)
            elif not isinstance(item, FaultsMoved | Stands | Shown):
                self._inbox.put_nowait(item)

    def awaits(self, attempt: int) -> bool:
        """Whether a source that comes back with this attempt is listened to."""
        return self._postcopy is not None and self._recovery.is_newer(attempt)

    def offer(self, connection: Connection) -> None:
        """The source is back on a new connection; it may have seen the break before we did."""
        offered = Offered(connection.attempt, connection)
        if self._recovery.phase is Phase.SETTLED or self.handover.finished:
            _put_newest(self._offers, offered)
            self._came_back.set()
        else:
            _put_newest(self._inbox, offered)

    async def _resume(self, commit: messages.Commit) -> None:
        guest = self._live_guest()
        # What may fail comes before the step after which there is no way back.
        await self._blocking(guest.restore, commit.snapshot)
        if commit.missing is not None:
            await self._blocking(self._arm, commit.missing)
        if self.handover.ended:  # a question has been answered meanwhile
            raise ConnectionBroken(
                "the source asked what had become of the guest before this commit was carried out,"
                ' and was told "never": it is not carried out any more'
            )
        if commit.missing is not None:
            self.handover.step("postcopy_commit")
        else:
            self.handover.step("commit")
            self._live_inflow().complete = True
        self._cpu_s = time.process_time() - self._cpu_start - vcpus_cpu_s()
        self.hit("before-resume")
        try:
            self.resumed_ns = await self._blocking(guest.resume)
        except BaseException:
            await self._blocking(guest.stop)  # some vCPUs may have begun
            self.handover.step("failure")
            raise
        self.handover.step("resumed")
        missing = self._live_postcopy().faults.missing_count if commit.missing is not None else 0
        self._timeline.log("resumed", t_ns=self.resumed_ns, missing=missing)
        self.hit("resumed")

    def _arm(self, missing: bytes) -> None:
        if self._postcopy is None:
            raise RemoteProtocolError("a switch to post-copy that was not set up")
        self._live_inflow().place_with(self._postcopy.faults.staging)  # before pages fault
        self._postcopy.arm(missing, self._placer.in_memory)

    async def _follow_up(self, setup: messages.Setup, commit: messages.Commit) -> None:
        """The guest runs here. A source that is gone changes nothing about that."""
        guest = self._live_guest()
        sampler = asyncio.create_task(self._sample(guest), name="sampler")
        try:
            with contextlib.suppress(ConnectionBroken):
                await self._connection.send(messages.Resumed(t_ns=self.resumed_ns or 0))
            self._say("the guest runs here")
            if commit.missing is not None:
                await self._fetch(None if commit.push else setup.run_after)
                self._take_late_offers()
            if commit.push:
                await self._run_on(setup.run_after)
        finally:
            await quit_task(sampler)
        self._samples.append(guest.progress())
        self.had_its_run = not self._stopping.is_set()
        finished = await self._blocking(self._finish, guest, setup)
        if not self.handover.finished:  # lazy copy: an ended guest needs no more pages
            self.handover.step("complete")
        if self.place.awaited:
            await self._leave()
        else:
            self._say(f"the guest was stopped after {sum(finished.steps):,} steps")
        self.hit("finished")
        await self._deliver(finished)

    async def _run_on(self, seconds: float) -> None:
        """A source that missed that everything has arrived is told when it comes back.

        No longer, where the agent is to end.
        """
        end = self._loop.time() + seconds
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(end) as self._run_limit:
                while not self._stopping.is_set():
                    await self._came_back.wait()
                    if self._run_limit.expired():
                        await asyncio.sleep(0)  # this is where it ends
                    if self._failure is not None:
                        raise self._failure
                    self._run_limit.reschedule(None)
                    await self._adopt_late()
                    self._run_limit.reschedule(end)
        self._run_limit = None

    async def _deliver(self, finished: messages.Finished) -> None:
        """The result to the source, which in post-copy may have lost us and come back."""
        while not self.said_bye:
            try:
                await self._connection.send(finished)
                async with asyncio.timeout(BYE_S):
                    while not isinstance(await self._next(), messages.Bye):
                        pass
                self.said_bye = True
            except (PageferryError, TimeoutError):
                if not self._fetched or not await self._adopt_late():
                    lost = "the source went away before it had the result"
                    if not self.place.kept:
                        raise ConnectionBroken(lost) from None
                    self._say(lost)
                    return

    async def _sample(self, guest: Guest) -> None:
        while True:
            self._samples.append(guest.progress())
            if self._postcopy is not None:
                self._postcopy.sample()
            await asyncio.sleep(SAMPLE_S)

    def _finish(self, guest: Guest, setup: messages.Setup) -> messages.Finished:
        """What was measured. The guest is stopped, and digested, unless it is kept."""
        kept, verify = setup.keep is not None, setup.verify and setup.keep is None
        if kept:
            self._timeline.log("guest-kept", steps=list(guest.steps()))
        else:
            stopped_ns = guest.pause()
            self._timeline.log("guest-stopped", t_ns=stopped_ns, steps=list(guest.steps()))
        beats = guest.heartbeats()
        cache = guest.cache_stats()
        if not kept:
            guest.drain()
        postcopy = None
        if self._postcopy is not None and self._fetched:
            if not self.handover.finished:  # lazy copy
                self._postcopy.settle()
            postcopy = self._postcopy.result()
        digest = None
        if verify and postcopy is not None and postcopy.missing is not None:
            present = ~bitmap.unpack(postcopy.missing, guest.n_pages)
            digest = guest.digest_of(present)
        elif verify:
            digest = guest.digest()
        if digest is not None:
            self._timeline.log("digested", digest=digest)
        inflow = self._inflow
        return messages.Finished(
            steps=list(guest.steps()),
            digest=digest,
            check=guest.check() if verify and not (postcopy and postcopy.missing) else None,
            postcopy=postcopy,
            cpu_s=self._cpu_s,
            received_bytes=inflow.received_bytes if inflow else 0,
            unpack_cpu_s=self._unpack_cpu_s + (inflow.unpack_cpu_s if inflow else 0.0),
            beats=[
                WireBeats(
                    first_ns=b.first_ns,
                    last_ns=b.last_ns,
                    gap_ns=b.gap_ns,
                    gap_start_ns=b.gap_start_ns,
                )
                for b in beats
            ],
            cache=None if cache is None else WireCache(**cache),
            samples=[
                WireSample(t_ns=s.t_ns, steps=s.steps, dirtied_pages=s.dirtied_pages)
                for s in _thin(self._samples)
            ],
            events=[WireEvent.of(e.t_ns, e.event, e.fields) for e in self._timeline.events],
        )

    # -- questions ----------------------------------------------------------------------------

    def answer(self) -> messages.Outcome:
        """What became of the commit. Before it is whole here, asking makes it "never"."""
        was_open = not (self.handover.ended or self.handover.may_run_guest)
        answer = self.handover.query()
        if was_open:
            self._fail(ConnectionBroken("the source lost this connection and asked"))
        return messages.Outcome(answer=answer.value, resumed_ns=self.resumed_ns)

    def _live_postcopy(self) -> Postcopy:
        assert self._postcopy is not None  # noqa: S101
        return self._postcopy

    def _live_inflow(self) -> Inflow:
        assert self._inflow is not None  # noqa: S101
        return self._inflow

    def _live_guest(self) -> Guest:
        assert self._guest is not None  # noqa: S101
        return self._guest


class _Stream:
    """A session's connections, as who recovers them sees them."""

    def __init__(self, session: DestSession) -> None:
        self._session = session

    async def drop(self) -> None:
        await self._session._drop_connections()

    def adopt(self, connection: Connection) -> None:
        self._session._adopt_stream(connection)

    async def resync(self, missing: NDArray[np.bool_]) -> None:
        await self._session._resync(missing)

    async def probe(self) -> None:
        await self._session._connection.probe()


def _put_newest(queue: Inbox[Any], offered: Offered) -> None:
    """Of several that wait, the newest attempt is the one that counts."""
    for older in queue.take_back(lambda item: isinstance(item, Offered)):
        older.connection.close()
    if not queue.put_if_room(offered, OFFER_BYTES):  # its source tries again
        offered.connection.close()


def most_control(n_pages: int) -> int:
    """Bytes of the longest message that a source may send: a commit, with its missing pages."""
    return n_pages // 8 + 256 * 1024


def _thin(samples: list[Progress], most: int = 10_000) -> list[Progress]:
    """At most that many, evenly: a long run is shown coarser, not cut off."""
    return samples[:: max(1, -(-len(samples) // most))]
