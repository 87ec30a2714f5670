"""The connections over which pages come, of one attempt after another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pageferry.common.errors import PageferryError, RemoteProtocolError
from pageferry.common.wire import bitmap, messages
from pageferry.common.wire.connection import Connection
from pageferry.common.wire.link_policy import LinkPolicy
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.dest_agent.postcopy.fetching import Broke, Stands
from pageferry.dest_agent.postcopy.monitor import Postcopy
from pageferry.dest_agent.precopy.page_receiver import PagePlacer, PageReceiver
from pageferry.dest_agent.session.context import DestContext
from pageferry.dest_agent.session.inbox import BarrierReached


def most_control(n_pages: int) -> int:
    """Return how long a message from a source may be: the longest is a commit with missing pages.

    Args:
        n_pages: Pages of the guest.

    Returns:
        Bytes.
    """
    return n_pages // 8 + 256 * 1024


@dataclass(slots=True)
class PageStream:
    """Bulk connections with their receiver, and in post-copy the urgent one.

    Attributes:
        context: The session's.
        setup: How many channels come, and how.
        stream_format: Of frames of pages.
        postcopy: None if no switch was set up.
        receiver: The present attempt's.
    """

    context: DestContext
    setup: messages.Setup
    stream_format: StreamFormat
    postcopy: Postcopy | None
    receiver: PageReceiver
    _unpack_cpu_s: float = 0.0  # of connections that are gone

    @classmethod
    def of(
        cls,
        context: DestContext,
        setup: messages.Setup,
        stream_format: StreamFormat,
        make_placer: Callable[[], PagePlacer],
        postcopy: Postcopy | None,
    ) -> PageStream:
        """Make the stream of the first attempt.

        Args:
            context: The session's; the running loop is the one that its items are read on.
            setup: How many channels come, and how.
            stream_format: Of frames of pages, made from the setup.
            make_placer: Called once for each bulk connection.
            postcopy: None if no switch was set up.

        Returns:
            The stream; none of its connections has come.
        """
        receiver = _receiver(context, setup, stream_format, make_placer)
        return cls(context, setup, stream_format, postcopy, receiver)

    @property
    def received_bytes(self) -> int:
        """Bytes received over the bulk connections of the present attempt."""
        return self.receiver.received_bytes

    @property
    def unpack_cpu_s(self) -> float:
        """CPU seconds that decompressing has cost, over all attempts."""
        return self._unpack_cpu_s + self.receiver.unpack_cpu_s

    @property
    def stands(self) -> bool:
        """Whether all connections of the present attempt have come."""
        return self.receiver.is_whole and (self.postcopy is None or self.postcopy.has_urgent)

    def attach(self, hello: messages.Hello, connection: Connection) -> None:
        """Take a bulk or urgent connection of the present attempt.

        Args:
            hello: Says which it is.
            connection: Its socket goes over to a receiving thread or to the fault handler.

        Raises:
            RemoteProtocolError: None is due.
            UsageError: This kernel lacks the congestion control that the setup names.
        """
        control = self.context.control
        connection.use_congestion(self.setup.congestion)
        connection.tap(self.context.injector)
        if hello.role != "urgent":
            self.receiver.attach(hello.channel, connection.detach())
        elif self.postcopy is None:
            raise RemoteProtocolError("an urgent connection of a session without post-copy")
        else:
            self.postcopy.attach(connection.detach_urgent(control.tell), hello.attempt)
        if self.postcopy is not None and self.stands:
            control.items.put_nowait(Stands(self.context.protocol.attempt))

    # -- what recovery uses: `fetching.DestStream` ------------------------------------------------

    async def drop(self) -> None:
        """Close every connection of the present attempt, and end its threads."""
        await self.context.control.drop()
        await self.close()
        if self.postcopy is not None:
            await self.context.thread.run(self.postcopy.disconnect)

    def adopt(self, connection: Connection) -> None:
        """Begin the next attempt; its bulk connections place pages while the guest runs.

        Args:
            connection: Its control connection.
        """
        adopt(self.context, connection, self.setup.guest.pages)
        self._unpack_cpu_s += self.receiver.unpack_cpu_s
        assert self.postcopy is not None  # noqa: S101 - nothing is recovered without
        staging = self.postcopy.faults.staging
        self.receiver = _receiver(self.context, self.setup, self.stream_format, staging)

    async def resync(self, missing: NDArray[np.bool_]) -> None:
        """Tell the source what is missing.

        Args:
            missing: bool[n_pages].

        Raises:
            ConnectionBroken: The control connection is broken.
        """
        await self.context.control.send(messages.Resync(missing=bitmap.pack(missing)))

    async def probe(self) -> None:
        """Wait until the source has answered a probe on the control connection."""
        await self.context.control.connection.probe()

    async def close(self) -> None:
        """Close the bulk connections of the present attempt, and end their threads."""
        await asyncio.get_running_loop().run_in_executor(None, self.receiver.close)


def adopt(context: DestContext, connection: Connection, n_pages: int) -> None:
    """Make a source's new control connection the present one, and listen to it.

    Args:
        context: The session's.
        connection: Of the attempt that the protocol takes for the present one.
        n_pages: Pages of the guest, for the length of messages.
    """
    context.control.adopt(connection, most_control(n_pages))
    context.reached("recovering")
    context.control.listen()


def _receiver(
    context: DestContext,
    setup: messages.Setup,
    stream_format: StreamFormat,
    make_placer: Callable[[], PagePlacer],
) -> PageReceiver:
    attempt = context.protocol.attempt
    loop, items = asyncio.get_running_loop(), context.control.items

    def on_failure(error: PageferryError) -> None:
        loop.call_soon_threadsafe(items.put_nowait, Broke(attempt, error))

    def on_barrier(index: int, t_ns: int) -> None:
        loop.call_soon_threadsafe(items.put_nowait, BarrierReached(index, t_ns))

    return PageReceiver(
        make_placer,
        setup.guest.pages,
        setup.channels,
        on_barrier,
        on_failure,
        context.control.held,
        stream=stream_format,
        link=LinkPolicy(congestion=setup.congestion, tap=context.injector),
        attempt=attempt,
    )
