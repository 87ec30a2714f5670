"""A TCP relay between two agents that cuts connections where a test says, and delays all bytes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable

# (bytes so far forwarded on this connection, the next chunk) -> how much of the chunk still goes
# through before the connection is cut; None: all of it, and on.
Cut = Callable[[int, bytes], int | None]


# The same arguments -> the chunk as it goes on, of the same length.
Change = Callable[[int, bytes], bytes]

_WIRE_CHUNKS = 1000  # what a long wire holds; the rest waits at the sender's end
_RESET = struct.pack("ii", 1, 0)  # closing sends a reset, and nothing that is still to be sent


class Relay:
    """Forwards connections to `port`; `refuse` turns new ones away. `change`, `change_back`: may be

    set to change what goes to the destination, and what comes from it.

    `cut` sees what goes to the destination, `cut_back` what comes from it. Every byte arrives
    `delay_s` after it was sent, in either direction.
    """

    def __init__(self, port: int, cut: Cut, cut_back: Cut, delay_s: float) -> None:
        self._port = port
        self.delay_s = delay_s
        self._cut = cut
        self._cut_back = cut_back
        self.refuse = False
        self.change: Change = lambda _sent, chunk: chunk
        self.change_back: Change = lambda _sent, chunk: chunk
        self.deaf_after_cut = False
        self.cuts = 0
        self._silenced = 0  # connections that came before this many others
        self._accepted = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self._ends: set[asyncio.StreamWriter] = set()

    def silence(self) -> None:
        """The wires of now carry nothing any more, and nobody is told: both ends stay open."""
        self._silenced = self._accepted

    def hold(self) -> None:
        """From now on nothing passes, in either direction, of old wires and of new ones."""
        self._passing.clear()

    def release(self) -> None:
        """What was held goes on, as if the network were back."""
        self._passing.set()

    def reset(self) -> int:
        """Reset all wires of now, at both ends; how many ends there were."""
        ends = [end for end in self._ends if not end.is_closing()]
        for end in ends:
            made = end.get_extra_info("socket")
            with contextlib.suppress(OSError):  # it has gone by itself
                made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.transport.abort()
        return len(ends)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuse:
            writer.close()
            return
        number = self._accepted
        self._accepted += 1
        self._ends.add(writer)
        try:
            await self._passing.wait()
            there = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:  # nobody listens there
            self._ends.discard(writer)
            writer.close()
            return
        self._ends.add(there[1])
        pumps = [
            asyncio.create_task(self._pump(number, reader, there[1], self._cut, self.change)),
            asyncio.create_task(
                self._pump(number, there[0], writer, self._cut_back, self.change_back)
            ),
        ]
        self._tasks.update(pumps)
        try:
            # Whichever direction ends first ends both, as a broken wire does.
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            for end in (writer, there[1]):
                self._ends.discard(end)
                end.close()

    async def close(self) -> None:
        """Wires that are left, silent ones above all, end here."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pump(
        self,
        number: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        cut: Cut,
        change: Change,
    ) -> None:
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_WIRE_CHUNKS)
        carrier = asyncio.create_task(self._carry(under_way, writer))
        try:
            with contextlib.suppress(ConnectionError):
                await self._take_in(number, reader, under_way, cut, change)
            if number < self._silenced:
                await asyncio.Event().wait()  # its end does not get through either
            await under_way.put((0.0, b""))
            await carrier
        finally:
            carrier.cancel()

    async def _take_in(
        self,
        number: int,
        reader: asyncio.StreamReader,
        under_way: asyncio.Queue[tuple[float, bytes]],
        cut: Cut,
        change: Change,
    ) -> None:
        clock = asyncio.get_running_loop().time
        sent = 0
        while await self._passing.wait() and (chunk := await reader.read(65536)):
            chunk = change(sent, chunk)
            limit = cut(sent, chunk)
            if number < self._silenced:
                continue
            part = chunk if limit is None else chunk[:limit]
            await under_way.put((clock() + self.delay_s, part))
            sent += len(part)
            if limit is not None:
                self.cuts += 1
                self.refuse |= self.deaf_after_cut
                return

    async def _carry(
        self, under_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        """Write what has been on its way for long enough; an empty chunk is the end."""
        clock = asyncio.get_running_loop().time
        with contextlib.suppress(ConnectionError):
            while True:
                due, chunk = await under_way.get()
                if not chunk:
                    return
                if (left := due - clock()) > 0:
                    await asyncio.sleep(left)
                await self._passing.wait()
                writer.write(chunk)
                await writer.drain()


@contextlib.asynccontextmanager
async def relay(
    port: int,
    cut: Cut = lambda _sent, _chunk: None,
    cut_back: Cut = lambda _sent, _chunk: None,
    delay_s: float = 0.0,
) -> AsyncIterator[tuple[Relay, int]]:
    """A relay to `port`, and its own port."""
    running = Relay(port, cut, cut_back, delay_s)
    server = await asyncio.start_server(running.serve, "127.0.0.1", 0)
    try:
        yield running, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await running.close()
