"""The control connection of the present attempt, and the one queue of all that happens.

Messages, barriers, broken connections, sources that come back: whatever happens, on whatever
thread, comes through here, so that it happens in one order.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import Any, Final

from pageferry.common.errors import ConnectionBroken, PageferryError
from pageferry.common.process.aio import quit_task, to_loop
from pageferry.common.process.threads import failure_of
from pageferry.common.wire import messages
from pageferry.common.wire.budget import Budget
from pageferry.common.wire.channel import Connection
from pageferry.common.wire.inbox import Inbox
from pageferry.common.wire.injector import Injector
from pageferry.common.wire.messages import Message
from pageferry.dest_agent.postcopy.fetching import Broke, FaultsMoved, Offered, Shown, Stands
from pageferry.dest_agent.protocol import DestProtocol

LAST_WORDS_S: Final = 0.1
OFFER_BYTES: Final = 128 * 1024  # of a connection that waits, the kernel's buffers left out


@dataclass(frozen=True, slots=True)
class BarrierReached:
    """Every bulk channel has ended this round."""

    index: int
    t_ns: int


Item = Message | BarrierReached | FaultsMoved | Broke | Offered | Stands | Shown


class Control:
    """Reads and writes the control connection; `items` holds what has not had its turn.

    Attributes:
        connection: Of the present attempt.
        held: The budget on which all draws that the source sends and nobody has dealt with.
        offers: Sources that come back when nothing is missing any more.
        came_back: Set when there is something in `offers`, or a thread of ours has failed.
        failure: Of a thread of ours, whatever the session is at.
    """

    def __init__(
        self, connection: Connection, protocol: DestProtocol, injector: Injector | None
    ) -> None:
        self.connection = connection
        self.held: Final = Budget()
        self.items: Final[Inbox[Item]] = Inbox(self.held)
        self.offers: Final[Inbox[Offered]] = Inbox(self.held)
        self.came_back: Final = asyncio.Event()
        self.failure: PageferryError | None = None
        self.tell: Final = to_loop(self._thread_failed)
        self._protocol = protocol
        self._injector = injector
        self._reader: asyncio.Task[None] | None = None
        connection.tap(injector)

    # -- the connection -------------------------------------------------------------------------

    def listen(self) -> None:
        """Read the present attempt's connection from now on."""
        self.connection.charge(self.held)
        reading = self._read(self.connection, self._protocol.attempt)
        self._reader = asyncio.create_task(reading, name="control-reader")

    async def _read(self, connection: Connection, attempt: int) -> None:
        """Clock samples are answered at once; everything else waits its turn."""
        try:
            while True:
                message = await connection.receive()
                if isinstance(message, messages.Ping):
                    answer = messages.Pong(t_ns=message.t_ns, peer_ns=time.monotonic_ns())
                    await connection.send(answer)
                else:
                    await self.items.take_in(message, connection.take_over())
        except Exception as error:  # noqa: BLE001 - who waits for a message must hear of it
            self.items.put_nowait(Broke(attempt, failure_of(error)))

    async def send(self, message: Message) -> None:
        """Say something on the present connection. Raises what breaks it."""
        await self.connection.send(message)

    async def mute(self) -> None:
        """Read no more of the present connection."""
        await quit_task(self._reader)

    async def drop(self) -> None:
        """Close the present connection."""
        await self.mute()
        self.connection.close()

    def adopt(self, connection: Connection, most_bytes: int) -> None:
        """Take this connection, whose attempt the protocol knows, for the present one."""
        self.connection = connection
        connection.limit(most_bytes)
        connection.tap(self._injector)

    # -- what happens ---------------------------------------------------------------------------

    def fail(self, error: PageferryError) -> None:
        """End the session, or begin to recover, by that."""
        self.items.put_nowait(Broke(self._protocol.attempt, error))

    def _thread_failed(self, error: PageferryError) -> None:
        self.failure = error
        self.fail(error)
        self.came_back.set()  # who waits for nothing else looks

    async def next(self) -> Message | BarrierReached:
        """Return the next message or barrier; raise what broke the present connections."""
        item = await self.items.get()
        while isinstance(item, FaultsMoved | Offered | Stands | Shown) or (
            isinstance(item, Broke) and item.attempt != self._protocol.attempt
        ):
            item = await self.items.get()  # left over from when pages were missing
        return await self._last_words(item.error) if isinstance(item, Broke) else item

    async def _last_words(self, error: PageferryError) -> messages.Cancel:
        """What a source says whose connection has broken; raises `error` where it says nothing.

        One that cancels says so on one connection and closes the others: which of it comes here
        first is chance.
        """
        if isinstance(error, ConnectionBroken):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS_S):
                    while True:
                        if isinstance(item := await self.items.get(), messages.Cancel):
                            return item
        raise error

    # -- sources that come back -----------------------------------------------------------------

    def offer(self, connection: Connection, *, late: bool) -> None:
        """Take a source that is back on a new connection.

        Args:
            connection: It may have seen the break before this end did.
            late: Whether nothing is missing any more.
        """
        offered = Offered(connection.attempt, connection)
        put_newest(self.offers if late else self.items, offered)
        if late:
            self.came_back.set()

    def keep_offers(self) -> None:
        """Once nothing is missing: a source that came back meanwhile has its turn later."""
        items = [self.items.get_nowait() for _ in range(self.items.qsize())]
        for item in items:
            if isinstance(item, Offered):
                self.offer(item.connection, late=True)
            elif not isinstance(item, FaultsMoved | Stands | Shown):
                self.items.put_nowait(item)


def put_newest(queue: Inbox[Any], offered: Offered) -> None:
    """Of several sources that wait, keep the newest attempt, which is the one that counts."""
    for older in queue.take_back(lambda item: isinstance(item, Offered)):
        older.connection.close()
    if not queue.put_if_room(offered, OFFER_BYTES):  # its source tries again
        offered.connection.close()
