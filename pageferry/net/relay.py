"""A relay of TCP connections with a rate, a delay and outages: a link that does not need root.

It listens on a port on loopback, and connects whoever comes there to the target. What the two say
to each other goes through a `ByteFlow` in each direction.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

import uvloop

from pageferry.common.errors import PageferryError
from pageferry.common.process.aio import Served, closed_is_reset
from pageferry.common.process.threads import WatchedThread
from pageferry.net.flow import ByteFlow
from pageferry.net.shape import Shape

_HOST: Final = "127.0.0.1"
_SOCKET_BUFFER: Final = 256 * 1024  # what waits for the rate waits at the sender, not in here


class RelayLink:
    """The relay, on a thread of its own; it listens once this is made.

    Making it raises `PageferryError`.

    Args:
        shape: What it is at first.
        tell: Called on that thread with what has ended it unexpectedly; None is nobody.
    """

    def __init__(self, shape: Shape, tell: Callable[[PageferryError], None] | None = None) -> None:
        self._there, self._back = ByteFlow(1), ByteFlow(2)
        self._target: tuple[str, int] | None = None
        self._served = Served(self._relay)
        self._passable: asyncio.Event
        self._ended: asyncio.Event
        try:
            self._listener = socket.create_server((_HOST, 0), backlog=128)
        except OSError as error:
            raise PageferryError(f"can't make the relay: {error.strerror}") from None
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER)
        self._loop = uvloop.new_event_loop()
        self._started = threading.Event()
        self._thread = WatchedThread(self._run, "relay", tell, daemon=False)
        self._thread.start()
        self._started.wait()
        if self._thread.failure is not None:
            self._listener.close()
            raise self._thread.failure
        self.apply(shape, outage=False)

    @property
    def port(self) -> int:
        """Port on loopback on which it listens."""
        return int(self._listener.getsockname()[1])

    def point_at(self, port: int) -> None:
        """Choose the port on loopback that whoever comes from now on is connected to.

        Until the first call, connections are closed at once.

        Args:
            port: The port on which the destination listens.
        """
        self._target = (_HOST, port)

    def apply(self, shape: Shape, *, outage: bool) -> None:
        """Make the link this from now on. An outage holds up what is under way, too.

        Args:
            shape: Rate, delay and jitter of both directions.
            outage: Whether nothing gets through.
        """

        def change() -> None:
            self._there.change(shape.forward, shape)
            self._back.change(shape.back, shape)
            if outage:
                self._passable.clear()
            else:
                self._passable.set()

        self._loop.call_soon_threadsafe(change)

    def counters(self) -> dict[str, dict[str, int]]:
        """Count nothing: no bytes are ever dropped.

        Returns:
            Nothing, an empty dict.
        """
        return {}

    def close(self) -> None:
        """End all connections and the thread."""
        with contextlib.suppress(RuntimeError):  # its thread, and so its loop, has ended before
            self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()
            self._started.set()  # whoever waits for it then looks at what became of it

    async def _serve(self) -> None:
        self._passable, self._ended = asyncio.Event(), asyncio.Event()
        self._passable.set()
        server = await asyncio.start_server(self._served.take, sock=self._listener)
        self._started.set()
        await self._ended.wait()
        server.close()
        await _some_turns()  # connections just accepted are then among those that are served
        await self._served.cancel()
        await _some_turns()  # what they aborted is closed then

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._target is None:
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            return  # nobody listens there: all that we can do is end the connection
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_Way(self._there, self._passable).carry(reader, far_writer))
                group.create_task(_Way(self._back, self._passable).carry(far_reader, writer))
        except* OSError:  # ENOTCONN, ETIMEDOUT and the like are no ConnectionError
            pass
        finally:
            far_writer.transport.abort()


class _Way:
    """One direction of one connection."""

    def __init__(self, flow: ByteFlow, passable: asyncio.Event) -> None:
        self._flow = flow
        self._passable = passable
        self._under_way: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        self._changed = asyncio.Event()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry until the reader's end; the writer's end follows when it is due."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take_in(reader))
            group.create_task(self._give_out(writer))

    async def _take_in(self, reader: asyncio.StreamReader) -> None:
        clock = asyncio.get_running_loop().time
        ended = False
        while not ended:
            while self._bytes >= self._flow.window:
                self._changed.clear()
                await self._changed.wait()
            piece = await reader.read(self._flow.piece)
            ended = not piece
            self._under_way.append((self._flow.due(len(piece), clock()), piece))
            self._bytes += len(piece)
            self._changed.set()

    async def _give_out(self, writer: asyncio.StreamWriter) -> None:
        clock = asyncio.get_running_loop().time
        with closed_is_reset():
            writer.transport.set_write_buffer_limits(high=0)  # so that drained means sent
        while True:
            while not self._under_way:
                self._changed.clear()
                await self._changed.wait()
            due, piece = self._under_way[0]
            if (left := due - clock()) > 0:
                await asyncio.sleep(left)
            await self._passable.wait()
            self._under_way.popleft()
            self._bytes -= len(piece)
            self._changed.set()
            if not piece:
                break
            with closed_is_reset():
                writer.write(piece)
                await writer.drain()
        with contextlib.suppress(OSError), closed_is_reset():
            writer.write_eof()


async def _some_turns() -> None:
    """Let the loop do what is due: a transport begins and ends within a few of its turns."""
    for _ in range(4):
        await asyncio.sleep(0)
