"""Post-copy after the switch: the guest runs there, and pages are missing.

The stream may break and be joined again any number of times within `--recover-timeout` each; only a
destination that says that it no longer has the guest, or cannot be reached for so long, ends it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from common.aio import see_through
from common.errors import (
    ConnectionBroken,
    PageferryError,
    PeerRefused,
    RemoteProtocolError,
)
from common.guest.memory import GuestMemory
from common.handover import Handover, State
from common.timeline import Timeline
from common.whereabouts import When, Who, told
from common.wire import bitmap, messages
from common.wire.injector import Injector
from source_agent.links import Links
from source_agent.postcopy import Supply
from source_agent.worker import Worker

SHARE_S: Final = 0.002  # how often injected faults look at what post-copy has sent
FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 1.0


@dataclass(slots=True)
class Switched:
    """Serves and pushes until the destination has all it needs; `run` says how that ended.

    hit: tells a point of the protocol to injected faults. settle: waits until nobody sends.
    """

    links: Links
    supply: Supply
    memory: GuestMemory
    handover: Handover
    timeline: Timeline
    worker: Worker
    recover_timeout_s: float
    notify: Callable[[str], None]
    hit: Callable[[str], None]
    settle: Callable[[], Awaitable[None]]

    async def run(self, *, push: bool) -> messages.Finished | None:
        """Until nothing is missing, or (lazy copy) the guest has ended: its result.

        Raises `GuestLostError`.
        """
        self.notify("the guest runs there, its memory follows" if push else "lazy copy")
        while True:
            try:
                return await self._serve_missing(push)
            except (ConnectionBroken, PeerRefused, RemoteProtocolError) as error:
                self.handover.step("connection_lost")
                await self.reconnect(error)

    async def watch_share(self, injector: Injector, total: int) -> None:
        """Tell injected faults when so much of the missing pages (`total`) has been sent."""
        while True:
            if not injector.hit_share(1 - self.supply.unsent() / max(total, 1)):
                return
            await asyncio.sleep(SHARE_S)

    async def _serve_missing(self, push: bool) -> messages.Finished | None:
        """Until the destination says that it has all it needs."""
        if self.links.urgent is None:
            message = await self.links.control.wait()
        else:
            message = await self._serve(push)
        if isinstance(message, messages.Finished):
            return message
        if not isinstance(message, messages.Complete):
            raise RemoteProtocolError(f"{message.kind} while pages are missing")
        return None

    async def _serve(self, push: bool) -> messages.Message:
        """Serve and push until the destination says something."""
        loop, server = asyncio.get_running_loop(), self.supply.server
        broken: asyncio.Future[PageferryError] = loop.create_future()

        def on_server() -> None:
            server.clear_event()
            if server.failure is not None and not broken.done():
                broken.set_result(server.failure)

        loop.add_reader(server.event_fd, on_server)
        server.open()
        on_server()  # what broke before nobody has been told
        waits: set[asyncio.Future[Any]] = {broken}
        answer = loop.create_task(self.links.control.wait())
        waits.add(answer)
        if push:
            waits.add(loop.create_task(self.worker.run(self.supply.push, self.links.outflow)))
        everything = [*waits]  # several may fail at once: each of them is asked why
        try:
            while not answer.done():
                done, waits = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                if broken in done and answer not in done:  # what it said last counts
                    raise broken.result()
                for each in done - {broken}:
                    each.result()  # a push that failed raises
            return answer.result()
        finally:
            loop.remove_reader(server.event_fd)
            await see_through(self._stop_serving(everything))

    async def _stop_serving(self, waits: list[asyncio.Future[Any]]) -> None:
        self.supply.stop_pushing()
        await asyncio.to_thread(self.supply.server.stop)
        for each in waits:
            each.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    async def reconnect(self, why: PageferryError) -> None:
        """The stream broke while pages are missing: come back. Raises `GuestLostError`."""
        self.timeline.log("postcopy-paused", reason=str(why))
        self.notify("the connection broke: reconnecting")
        deadline = time.monotonic() + self.recover_timeout_s
        error: PageferryError = why
        pause = FIRST_PAUSE_S
        while True:
            await see_through(self.links.hang_up(self.settle))
            try:
                await self._rejoin()
                return
            except PeerRefused as refusal:
                self.handover.step("gave_up")
                raise told(str(refusal), Who.DEST, When.PARTLY) from None
            except PageferryError as failure:
                error = failure
            if self.handover.state is State.POSTCOPY_RECOVER:
                self.handover.step("connection_lost")
            if time.monotonic() >= deadline:
                self.handover.step("gave_up")
                raise told(
                    f"the destination could not be reached again ({error})", Who.DEST, When.PARTLY
                )
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    async def _rejoin(self) -> None:
        await self.links.rejoin()
        self.hit("recovering")
        self.handover.step("recover")
        resync = await self.links.control.expect(messages.Resync)
        missing: NDArray[np.bool_] = bitmap.unpack(resync.missing, self.memory.n_pages)
        self.supply.server.resync(missing)
        if missing.any():  # else it has only to say once more that it has all of them
            await self.links.open_channels(self.memory, self.supply)
        self.handover.step("recovered")
        self.timeline.log("postcopy-recovered", missing=int(missing.sum()))
