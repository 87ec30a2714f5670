"""The guest runs here: until no page is missing, until it has had its run, until the result is out.

A source that is gone changes nothing for the guest. One that comes back is heard: while pages are
missing it brings them (`dest_agent.postcopy.fetching`), later it is told what it missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final

import numpy as np

from pageferry.common.errors import ConnectionBroken, InternalError, PageferryError
from pageferry.common.guest.progress import Progress
from pageferry.common.process.aio import quit_task, run_to_completion
from pageferry.common.wire import messages
from pageferry.dest_agent.postcopy.fetching import Fetching, MissingPagesChanged, await_late_source
from pageferry.dest_agent.postcopy.monitor import Postcopy
from pageferry.dest_agent.protocol import SourceSaidBye
from pageferry.dest_agent.session.context import DestContext, Prepared
from pageferry.dest_agent.session.inbox import BarrierReached
from pageferry.dest_agent.session.result import finish_guest
from pageferry.dest_agent.session.stream import adopt

BYE_S: Final = 600.0  # the source replays the guest before it says goodbye
SAMPLE_S: Final = 0.1
SHARE_S: Final = 0.002  # how often injected faults look at how much has come in post-copy


class GuestRun:
    """One guest's run here, from its first instruction to the source's goodbye.

    Args:
        context: The session's.
        prepared: The guest; it does not run yet when this is made.
        commit: Says which pages are missing, and whether they are pushed.
        stopping: Set when the agent is to end.

    Attributes:
        closing: Set by the session once no pause of the guest may begin any more.
        fetched: Whether pages were missing when it began to run.
        had_its_run: Whether its run was not cut short.
        said_bye: Whether the source has the result.
    """

    def __init__(
        self,
        context: DestContext,
        prepared: Prepared,
        commit: messages.Commit,
        stopping: asyncio.Event,
    ) -> None:
        self._context = context
        self._prepared = prepared
        self._guest = prepared.guest
        self._commit = commit
        self._stopping = stopping
        self._samples: list[Progress] = []
        self._over: asyncio.Task[None] | None = None  # ends a lazy copy's guest
        self.closing = False
        self.fetched = False
        self.had_its_run = False
        self.said_bye = False

    async def run(self) -> None:
        """Follow the guest that has just been resumed, to its source's goodbye.

        Raises:
            ConnectionBroken: The source went away before it had the result, and the guest is not
                kept.
            GuestLostError: Pages are missing for good.
            PageferryError: Something of our own failed, such as a vCPU.
        """
        context, setup, commit = self._context, self._prepared.setup, self._commit
        sampler = asyncio.create_task(self._sample(), name="sampler")
        try:
            with contextlib.suppress(ConnectionBroken):
                resumed_ns = context.protocol.resumed_ns or 0
                await context.control.send(messages.Resumed(t_ns=resumed_ns))
            context.say("the guest runs here")
            if commit.missing is not None:
                await self._fetch(None if commit.push else setup.run_after)
                context.control.keep_offers()
            if commit.push:
                await self._run_on(setup.run_after)
        finally:
            await quit_task(sampler)
        self._samples.append(self._guest.progress())
        self.had_its_run = not self._stopping.is_set()
        finished = await context.thread.run(
            finish_guest, context, self._prepared, self._samples, self.fetched
        )
        context.protocol.guest_ended()
        if context.reservation.awaited:
            await self._leave()
        else:
            context.say(f"the guest was stopped after {sum(finished.steps):,} steps")
        context.reached("finished")
        await self._deliver(finished)

    async def _sample(self) -> None:
        while True:
            self._samples.append(self._guest.progress())
            if self._prepared.postcopy is not None:
                self._prepared.postcopy.sample()
            await asyncio.sleep(SAMPLE_S)

    # -- pages that are missing -----------------------------------------------------------------

    async def _fetch(self, limit_s: float | None) -> None:
        """Fetch until no page is missing or, if nothing is pushed, the guest has run `limit_s`."""
        context, postcopy = self._context, self._live_postcopy()
        faults, loop = postcopy.faults, asyncio.get_running_loop()
        self.fetched = True
        watcher = loop.create_task(self._watch_share(), name="shares")
        loop.add_reader(faults.event_fd, self._on_faults)
        over = self._over = (
            None if limit_s is None else loop.create_task(self._pause_after(limit_s))
        )
        try:
            await self._fetching().run()
            if over is not None and not over.done():
                over.cancel()
                await asyncio.wait({over})  # a guest has one controlling thread at a time
        finally:
            loop.remove_reader(faults.event_fd)
            await quit_task(watcher)
            if over is not None:
                over.cancel()
        if faults.missing_count:
            return  # lazy copy: the source keeps what the guest never touched
        t_ns = context.timeline.log("all-pages-present")
        self._prepared.stream.receiver.complete = True
        await context.thread.run(faults.disarm)
        self._prepared.cpu.mark()
        complete = context.protocol.complete(t_ns)
        context.reached("before-complete")
        with contextlib.suppress(ConnectionBroken):
            await context.control.send(complete)

    def _fetching(self) -> Fetching:
        context, over = self._context, self._over
        return Fetching(
            self._prepared.stream,
            self._live_postcopy().faults,
            context.protocol,
            context.timeline,
            context.control.items,
            self._guest.n_pages,
            context.say,
            over=lambda: over is not None and over.done(),
        )

    async def _pause_after(self, seconds: float) -> None:
        """Pause a lazy copy's guest, which may have to wait for a page, and so for a recovery."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        paused = False
        while not paused and not self.closing:
            try:
                # Not on the session's thread, which a recovery needs meanwhile.
                await run_to_completion(self._pause_aside())
                paused = True
            except InternalError:
                return  # that vCPU never will pause: the session has been told
            except PageferryError:  # no answer yet
                continue
        self._context.control.items.put_nowait(MissingPagesChanged())  # whoever watches looks again

    async def _pause_aside(self) -> None:
        await asyncio.to_thread(self._guest.pause)

    async def _watch_share(self) -> None:
        """Tell injected faults how much of the missing pages is in place."""
        faults, injector = self._live_postcopy().faults, self._context.injector
        total = max(faults.missing_count, 1)
        while injector is not None:
            if not injector.reached_share(1 - faults.missing_count / total):
                return
            await asyncio.sleep(SHARE_S)

    def _on_faults(self) -> None:
        self._live_postcopy().faults.clear_event()
        self._context.control.items.put_nowait(MissingPagesChanged())

    def _live_postcopy(self) -> Postcopy:
        assert self._prepared.postcopy is not None  # noqa: S101 - see `DestProtocol.receive`
        return self._prepared.postcopy

    # -- the guest is whole ---------------------------------------------------------------------

    async def _run_on(self, seconds: float) -> None:
        """Let the guest run for so long, or until the agent is to end.

        A source that missed that everything has arrived is told when it comes back.
        """
        control, loop = self._context.control, asyncio.get_running_loop()
        end_s = loop.time() + seconds
        stopping = loop.create_task(self._stopping.wait())
        try:
            while not self._stopping.is_set() and (left_s := end_s - loop.time()) > 0:
                back = loop.create_task(control.came_back.wait())
                first = asyncio.FIRST_COMPLETED
                await asyncio.wait({stopping, back}, timeout=left_s, return_when=first)
                came_back = back.done()
                await quit_task(back)
                if control.failure is not None:
                    raise control.failure
                if came_back and not self._stopping.is_set():
                    await self._adopt_late()
        finally:
            await quit_task(stopping)

    async def _adopt_late(self) -> bool:
        """Take back a source that missed that everything has arrived; return whether one came."""
        context = self._context
        await context.control.drop()
        context.control.came_back.clear()
        connection = await await_late_source(context.protocol, context.control.offers)
        if connection is None:
            return False
        n_pages = self._guest.n_pages
        adopt(context, connection, n_pages)
        with contextlib.suppress(ConnectionBroken):
            await self._prepared.stream.resync(np.zeros(n_pages, np.bool_))
            await context.control.send(messages.Complete(t_ns=time.monotonic_ns()))
        return True

    async def _leave(self) -> None:
        """Leave the guest to the registry: from now on this session has nothing to do with it."""
        if self._prepared.postcopy is not None:
            await self._context.thread.run(self._prepared.postcopy.faults.close)
        if not self.fetched:  # otherwise duplicates may still be on their way, to be dropped
            await self._prepared.stream.close()
        self._guest.watch(None)
        self._context.reservation.keep(self._guest)

    async def _deliver(self, finished: messages.Finished) -> None:
        """Send the result to the source, which in post-copy may have lost us and come back."""
        control = self._context.control
        while not self.said_bye:
            try:
                await control.send(finished)
                async with asyncio.timeout(BYE_S):
                    await self._await_bye()
                self.said_bye = True
            except (PageferryError, TimeoutError):
                if not self.fetched or not await self._adopt_late():
                    lost = "the source went away before it had the result"
                    if not self._context.reservation.kept:
                        raise ConnectionBroken(lost) from None
                    self._context.say(lost)
                    return

    async def _await_bye(self) -> None:
        while True:
            item = await self._context.control.next()
            if isinstance(item, BarrierReached):
                continue
            if isinstance(self._context.protocol.receive(item), SourceSaidBye):
                return

    async def settle(self) -> None:
        """Wait for whatever still wants something of the guest; `closing` has been set."""
        if self._over is not None:  # a pause that has begun must end before the guest does
            await asyncio.gather(self._over, return_exceptions=True)
