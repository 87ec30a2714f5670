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
from typing import Any, TypeVar

from common.aio import see_through
from common.errors import (
    CancelledByUser,
    ConnectionBroken,
    PageferryError,
    PeerRefused,
    RemoteProtocolError,
    UsageError,
)
from common.guest.machine import Guest, Progress, compile_kernels
from common.handover import Handover
from common.host import check_memory
from common.timeline import Timeline
from common.units import format_size
from common.wire import messages
from common.wire.channel import Connection
from common.wire.messages import Message
from dest_agent.inflow import Inflow
from dest_agent.placer import GuestPlacer

_T = TypeVar("_T")

SETUP_S = 600.0  # from Hello to Setup: the source boots its guest in between
BYE_S = 600.0  # the source replays the guest before it says goodbye
SAMPLE_S = 0.1
LAST_WORDS_S = 0.1


@dataclass(frozen=True, slots=True)
class BarrierReached:
    """Every bulk channel has ended this round."""

    index: int
    t_ns: int


class DestSession:
    """Receives one guest and runs it."""

    def __init__(
        self,
        session: str,
        connection: Connection,
        timeline: Timeline,
        say: Callable[[str], None],
        expected_memory: int | None,
    ) -> None:
        self.session = session
        self.handover = Handover("dest")
        self.resumed_ns: int | None = None
        self.said_bye = False
        self._connection = connection
        self._timeline = timeline
        self._say = say
        self._expected_memory = expected_memory
        self._guest: Guest | None = None
        self._inflow: Inflow | None = None
        self._loop = asyncio.get_running_loop()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="session")
        self._inbox: asyncio.Queue[Message | BarrierReached | PageferryError] = asyncio.Queue()
        self._reader: asyncio.Task[None] | None = None
        self._samples: list[Progress] = []
        self._cpu_start = 0.0
        self._cpu_s = 0.0

    # -- life cycle ---------------------------------------------------------------------------

    async def run(self) -> None:
        """From Welcome to Bye. Raises what ended the session early, after telling the source."""
        self._reader = asyncio.create_task(self._read(), name="control-reader")
        try:
            setup = await self._prepare()
            commit = await self._receive()
            await self._resume(commit)
            await self._follow_up(setup)
        except PageferryError as error:
            await see_through(self._give_up(error))
            raise
        except asyncio.CancelledError:
            stopped = CancelledByUser("the destination agent was stopped")
            await see_through(self._give_up(stopped))
            raise
        finally:
            await see_through(self._close())

    async def _read(self) -> None:
        """Clock samples are answered at once; everything else waits its turn."""
        try:
            while True:
                message = await self._connection.receive()
                if isinstance(message, messages.Ping):
                    answer = messages.Pong(t_ns=message.t_ns, peer_ns=time.monotonic_ns())
                    await self._connection.send(answer)
                else:
                    self._inbox.put_nowait(message)
        except PageferryError as error:
            self._inbox.put_nowait(error)

    async def _next(self) -> Message | BarrierReached:
        item = await self._inbox.get()
        if isinstance(item, ConnectionBroken):
            # A source that cancels says so on one connection and closes the others: which of it
            # comes here first is chance.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS_S):
                    while not isinstance(later := await self._inbox.get(), messages.Cancel):
                        pass
                    item = later
        if isinstance(item, PageferryError):
            raise item
        if isinstance(item, messages.Cancel):
            raise CancelledByUser(f"the source cancelled: {item.reason}")
        return item

    async def _blocking(self, function: Callable[..., _T], *args: Any) -> _T:
        return await self._loop.run_in_executor(self._worker, function, *args)

    async def _give_up(self, error: PageferryError) -> None:
        """Tell the source; before the whole commit is here, never resume from now on."""
        if self.handover.may_run_guest:
            return
        cancelled = isinstance(error, CancelledByUser)
        self.handover.step("cancel" if cancelled else "failure")
        self._timeline.log("failed", reason=str(error))
        if not isinstance(error, ConnectionBroken | CancelledByUser):
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
        await self._blocking(self._release)
        self._worker.shutdown(wait=True)

    def _release(self) -> None:
        if self._guest is not None:
            self._guest.stop()
            self._guest.close()

    # -- phases -------------------------------------------------------------------------------

    async def _prepare(self) -> messages.Setup:
        try:
            async with asyncio.timeout(SETUP_S):
                setup = await self._next()
        except TimeoutError:
            raise PeerRefused(f"no setup came within {SETUP_S:.0f} s") from None
        if not isinstance(setup, messages.Setup):
            raise RemoteProtocolError("something else came before the setup")
        self.handover.peer("setup")
        self._check_memory(setup.guest.memory)
        self._say(f"preparing for a guest of {format_size(setup.guest.memory)}")
        guest = self._guest = await self._blocking(self._make_guest, setup)
        await self._blocking(guest.start)  # paused: what is left for later is to wake the threads
        self._placer = GuestPlacer(guest.memory)
        self._inflow = Inflow(
            self._placer, guest.n_pages, setup.channels, self._on_barrier, self._on_failure
        )
        self._timeline.log("ready")
        self._cpu_start = time.process_time()
        await self._connection.send(messages.Ready())
        self.handover.step("ready")
        return setup

    def _check_memory(self, size: int) -> None:
        if self._expected_memory not in (None, size):
            raise UsageError(
                f"guest size mismatch: the source has a guest of {format_size(size)},"
                f" this destination takes {format_size(self._expected_memory or 0)}"
            )
        check_memory(size)

    def _make_guest(self, setup: messages.Setup) -> Guest:
        compile_kernels(setup.guest, self._say)
        return Guest(setup.guest, boot=False, vcpu_nice=setup.vcpu_nice)

    def attach(self, channel: int, connection: Connection) -> None:
        """A bulk connection of this session. Raises `RemoteProtocolError` where none is due."""
        if self._inflow is None:
            raise RemoteProtocolError("a bulk channel came before the setup")
        self._inflow.attach(channel, connection.detach())

    def _on_barrier(self, index: int, t_ns: int) -> None:
        self._loop.call_soon_threadsafe(self._inbox.put_nowait, BarrierReached(index, t_ns))

    def _on_failure(self, error: PageferryError) -> None:
        self._loop.call_soon_threadsafe(self._inbox.put_nowait, error)

    async def _receive(self) -> messages.Commit:
        commit: messages.Commit | None = None
        passed = 0
        while commit is None or passed != commit.barrier:
            item = await self._next()
            if isinstance(item, BarrierReached):
                passed = item.index
                self._timeline.log("round-received", t_ns=item.t_ns, round=passed)
                done = messages.RoundDone(index=passed, t_ns=item.t_ns)
                await self._connection.send(done)
            elif isinstance(item, messages.Commit) and commit is None and item.barrier >= passed:
                self._timeline.log("commit-received")
                commit = item
            else:
                raise RemoteProtocolError(f"{type(item).__name__} out of turn")
        return commit

    async def _resume(self, commit: messages.Commit) -> None:
        guest = self._live_guest()
        # What may fail comes before the step after which there is no way back.
        await self._blocking(guest.restore, commit.snapshot)
        self.handover.step("commit")
        if self._inflow is not None:
            self._inflow.complete = True
        self._cpu_s = time.process_time() - self._cpu_start
        try:
            self.resumed_ns = await self._blocking(guest.resume)
        except BaseException:
            await self._blocking(guest.stop)  # some vCPUs may have begun
            self.handover.step("failure")
            raise
        self.handover.step("resumed")
        self._timeline.log("resumed", t_ns=self.resumed_ns)

    async def _follow_up(self, setup: messages.Setup) -> None:
        """The guest runs here. A source that is gone changes nothing about that."""
        guest = self._live_guest()
        sampler = asyncio.create_task(self._sample(guest), name="sampler")
        with contextlib.suppress(ConnectionBroken):
            await self._connection.send(messages.Resumed(t_ns=self.resumed_ns or 0))
        self._say("the guest runs here")
        await asyncio.sleep(setup.run_after)
        sampler.cancel()
        self._samples.append(guest.progress())
        finished = await self._blocking(self._finish, guest, setup.verify)
        self._say(f"the guest was stopped after {sum(finished.steps):,} steps")
        try:
            await self._connection.send(finished)
            async with asyncio.timeout(BYE_S):
                while not isinstance(await self._next(), messages.Bye):
                    pass
        except (PageferryError, TimeoutError):
            self._say("the source went away before it had the result")
        else:
            self.said_bye = True

    async def _sample(self, guest: Guest) -> None:
        while True:
            self._samples.append(guest.progress())
            await asyncio.sleep(SAMPLE_S)

    def _finish(self, guest: Guest, verify: bool) -> messages.Finished:
        stopped_ns = guest.pause()
        self._timeline.log("guest-stopped", t_ns=stopped_ns, steps=list(guest.steps()))
        beats = guest.heartbeats()
        cache = guest.cache_stats()
        guest.drain()
        digest = guest.digest() if verify else None
        if digest is not None:
            self._timeline.log("digested")
        inflow = self._inflow
        return messages.Finished(
            steps=list(guest.steps()),
            digest=digest,
            check=guest.check() if verify else None,
            cpu_s=self._cpu_s,
            received_bytes=inflow.received_bytes if inflow else 0,
            beats=[
                messages.WireBeats(
                    first_ns=b.first_ns,
                    last_ns=b.last_ns,
                    gap_ns=b.gap_ns,
                    gap_start_ns=b.gap_start_ns,
                )
                for b in beats
            ],
            cache=cache,
            samples=[
                messages.WireSample(t_ns=s.t_ns, steps=s.steps, dirtied_pages=s.dirtied_pages)
                for s in _thin(self._samples)
            ],
            events=[
                messages.WireEvent(t_ns=e.t_ns, event=e.event, fields=e.fields)
                for e in self._timeline.events
            ],
        )

    # -- questions ----------------------------------------------------------------------------

    def answer(self) -> messages.Outcome:
        """What became of the commit. Before it is whole here, asking makes it "never"."""
        was_open = not (self.handover.ended or self.handover.may_run_guest)
        answer = self.handover.query()
        if was_open:
            self._inbox.put_nowait(ConnectionBroken("the source lost this connection and asked"))
        return messages.Outcome(answer=answer.value, resumed_ns=self.resumed_ns)

    def _live_guest(self) -> Guest:
        assert self._guest is not None  # noqa: S101
        return self._guest


def _thin(samples: list[Progress], most: int = 10_000) -> list[Progress]:
    """At most that many, evenly: a long run is shown coarser, not cut off."""
    return samples[:: max(1, -(-len(samples) // most))]
