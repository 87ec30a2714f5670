"""What a source does for a guest that runs elsewhere with pages missing: one attempt at a time.

`PostcopyPhase` says when; here are the connections, the page server and the pusher that do it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pageferry.common.errors import InternalError, PageferryError
from pageferry.common.guest.memory import GuestMemory
from pageferry.common.process.aio import run_to_completion
from pageferry.common.wire import bitmap, messages
from pageferry.source_agent.connection.connections import SourceConnections
from pageferry.source_agent.guest_thread import Worker
from pageferry.source_agent.postcopy.supply import PageSupply
from pageferry.source_agent.protocol import SourceProtocol


@dataclass(slots=True)
class Serving:
    """Answers demands and pushes over the connections of the present attempt.

    Attributes:
        connections: The session's connections.
        protocol: The source's end of the session.
        supply: What is still missing there.
        memory: Of the paused guest.
        worker: The thread that pushes.
        reached: Tells injected faults that a point has been reached.
        settle: Waits until nobody sends.
    """

    connections: SourceConnections
    protocol: SourceProtocol
    supply: PageSupply
    memory: GuestMemory
    worker: Worker
    reached: Callable[[str], None]
    settle: Callable[[], Awaitable[None]]
    _answered: asyncio.Event = field(default_factory=asyncio.Event)

    def unsent(self) -> int:
        """Count the pages that have been neither pushed nor pulled.

        Returns:
            How many there are.
        """
        return self.supply.unsent()

    async def rejoin(self, attempt: int) -> NDArray[np.bool_] | messages.CommitOutcome:
        """Open a new control connection, and learn what is missing there.

        Args:
            attempt: Number of the attempt.

        Returns:
            bool[n_pages], the missing pages, which are then unsent here; or what became of the
            session where it has ended.

        Raises:
            PageferryError: Whatever a handshake may raise.
        """
        outcome = await self.connections.rejoin(attempt)
        if outcome is not None:
            return outcome
        self.reached("recovering")
        resync = await self.connections.control.expect(
            messages.Resync, timeout_s=self.connections.stall_s
        )
        self.protocol.receive(resync)
        missing: NDArray[np.bool_] = bitmap.unpack(resync.missing, self.memory.n_pages)
        self.supply.server.resync(missing)
        return missing

    async def open(self) -> None:
        """Open the other connections of the attempt."""
        self._answered.clear()
        await self.connections.open_channels(self.memory, self.supply)

    async def prove(self) -> None:
        """Wait for the answer to a probe on the control connection, and on the urgent one.

        Somebody has to `serve` meanwhile.

        Raises:
            PageferryError: Whatever breaks the control connection.
        """
        await self.connections.control.probe()
        await self._answered.wait()

    async def serve(self, *, push: bool) -> messages.Message:
        """Serve and push until the destination says something.

        Args:
            push: Whether to send pages that nobody has asked for.

        Returns:
            What the destination said.

        Raises:
            PageferryError: What broke a connection, or failed in a thread of ours.
        """
        if self.connections.urgent is None:  # nothing is missing
            return await self.connections.control.wait()
        loop, server = asyncio.get_running_loop(), self.supply.server
        broken: asyncio.Future[PageferryError] = loop.create_future()

        def on_server() -> None:
            server.clear_event()
            if server.answered:
                self._answered.set()
            if server.failure is not None and not broken.done():
                broken.set_result(server.failure)

        loop.add_reader(server.event_fd, on_server)
        server.open()
        on_server()  # nobody has been told what broke before
        waits: set[asyncio.Future[Any]] = {broken}
        answer = loop.create_task(self.connections.control.wait())
        waits.add(answer)
        if push:
            waits.add(
                loop.create_task(self.worker.run(self.supply.push, self.connections.page_sender))
            )
        everything = [*waits]  # several may fail at once: the result of each is retrieved
        try:
            while not answer.done():
                done, waits = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                if broken in done and answer not in done:  # its last word counts
                    self._raise_own()
                    raise broken.result()
                for each in done - {broken}:
                    each.result()  # a push that failed raises
            return answer.result()
        finally:
            loop.remove_reader(server.event_fd)
            await run_to_completion(self._stop_serving(everything))

    def _raise_own(self) -> None:
        """Raise the failure of a thread of ours: it breaks its connection, and is the reason."""
        if isinstance(self.connections.failure, InternalError):
            raise self.connections.failure

    async def _stop_serving(self, waits: list[asyncio.Future[Any]]) -> None:
        self.supply.stop_pushing()
        await asyncio.to_thread(self.supply.server.stop)
        for each in waits:
            each.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    async def hang_up(self) -> None:
        """Close every connection of the attempt, in bounded time."""
        await self.connections.hang_up(self.settle)
