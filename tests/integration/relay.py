"""A TCP relay between two agents that cuts connections where a test says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

# (bytes so far forwarded on this connection, the next chunk) -> how much of the chunk still goes
# through before the connection is cut; None: all of it, and on.
Cut = Callable[[int, bytes], int | None]


class Relay:
    """Forwards connections to `port`; `refuse` turns new ones away.

    `cut` sees what goes to the destination, `cut_back` what comes from it.
    """

    def __init__(self, port: int, cut: Cut, cut_back: Cut) -> None:
        self._port = port
        self._cut = cut
        self._cut_back = cut_back
        self.refuse = False
        self.deaf_after_cut = False
        self.cuts = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuse:
            writer.close()
            return
        there = await asyncio.open_connection("127.0.0.1", self._port)
        pumps = [
            asyncio.create_task(self._pump(reader, there[1], self._cut)),
            asyncio.create_task(self._pump(there[0], writer, self._cut_back)),
        ]
        self._tasks.update(pumps)
        # Whichever direction ends first ends both, as a broken wire does.
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for end in (writer, there[1]):
            end.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: Cut
    ) -> None:
        sent = 0
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(65536):
                limit = cut(sent, chunk)
                part = chunk if limit is None else chunk[:limit]
                writer.write(part)
                await writer.drain()
                sent += len(part)
                if limit is not None:
                    self.cuts += 1
                    self.refuse |= self.deaf_after_cut
                    return


@contextlib.asynccontextmanager
async def relay(
    port: int, cut: Cut, cut_back: Cut = lambda _sent, _chunk: None
) -> AsyncIterator[tuple[Relay, int]]:
    """A relay to `port`, and its own port."""
    running = Relay(port, cut, cut_back)
    server = await asyncio.start_server(running.serve, "127.0.0.1", 0)
    try:
        yield running, server.sockets[0].getsockname()[1]
    finally:
        server.close()
