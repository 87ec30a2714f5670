"""The control connection of the present attempt, and the one queue of everything that happens.

Messages, barriers, broken connections, sources that come back: whatever happens, on whatever
thread, goes through here, so that it happens in one order.
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
from pageferry.common.wire.connection import Connection
from pageferry.common.wire.inbox import Inbox
from pageferry.common.wire.injector import Injector
from pageferry.common.wire.messages import Message
from pageferry.dest_agent.postcopy.fetching import (
    Broke,
    MissingPagesChanged,
    Offered,
    Shown,
    Stands,
)
from pageferry.dest_agent.protocol import DestProtocol

LAST_WORDS_S: Final = 1.0  # for what has been sent on one connection while another was closed
OFFER_BYTES: Final = 128 * 1024  # of a connection that waits, without the kernel's buffers


@dataclass(frozen=True, slots=True)
class BarrierReached:
    """Every bulk channel has ended this round.

    Attributes:
        index: The round's number, from 1.
        t_ns: When the last channel ended it, CLOCK_MONOTONIC ns.
    """

    index: int
    t_ns: int


Item = Message | BarrierReached | MissingPagesChanged | Broke | Offered | Stands | Shown


class DestControl:
    """Reads and writes the control connection; `items` holds what has not had its turn.

    Args:
        connection: On which the source has said hello. Closed by the session, as are those that
            follow it.
        protocol: Says which attempt is the present one; not changed here.
        injector: Taps every connection; None without injected faults.

    Attributes:
        connection: The present attempt's.
        held: The budget that everything draws from that the source sends and nobody has handled.
        items: What has happened, in order.
        offers: Sources that come back after nothing is missing any more.
        came_back: Set when there is something in `offers`, or a thread of ours has failed.
        failure: What ended a thread of ours, in whichever phase the session is.
        tell: Takes such a failure, from any thread.
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
        """Start to read the present attempt's connection."""
        self.connection.charge(self.held)
        reading = self._read(self.connection, self._protocol.attempt)
        self._reader = asyncio.create_task(reading, name="control-reader")

    async def _read(self, connection: Connection, attempt: int) -> None:
        """Answer clock samples at once, and queue everything else."""
        try:
            while True:
                message = await connection.receive()
                if isinstance(message, messages.Ping):
                    answer = messages.Pong(t_ns=message.t_ns, peer_ns=time.monotonic_ns())
                    await connection.send(answer)
                else:
                    await self.items.take_in(message, connection.take_over())
        except Exception as error:  # noqa: BLE001 - whoever waits for a message must hear of it
            self.items.put_nowait(Broke(attempt, failure_of(error)))

    async def send(self, message: Message) -> None:
        """Send a message on the present connection.

        Args:
            message: Anything that a destination may say now; that is not checked here.

        Raises:
            ConnectionBroken: The connection is broken, or the source has read nothing for too long.
        """
        await self.connection.send(message)

    async def mute(self) -> None:
        """Read no more of the present connection."""
        await quit_task(self._reader)

    async def drop(self) -> None:
        """Close the present connection."""
        await self.mute()
        self.connection.close()

    def adopt(self, connection: Connection, most_bytes: int) -> None:
        """Make this connection the present one; `listen` begins to read it.

        Args:
            connection: Of the attempt that the protocol takes for the present one.
            most_bytes: The longest message to take from it.
        """
        self.connection = connection
        connection.limit(most_bytes)
        connection.tap(self._injector)

    # -- what happens ---------------------------------------------------------------------------

    def fail(self, error: PageferryError) -> None:
        """Queue an error that ends the session, or begins a recovery.

        Args:
            error: What broke the present attempt.
        """
        self.items.put_nowait(Broke(self._protocol.attempt, error))

    def _thread_failed(self, error: PageferryError) -> None:
        self.failure = error
        self.fail(error)
        self.came_back.set()  # wakes whoever waits for nothing else

    async def next(self) -> Message | BarrierReached:
        """Return the next message or barrier; drop what is left from when pages were missing.

        Returns:
            A cancel or a goodbye that is on its way while another connection ends counts before
            that end.

        Raises:
            PageferryError: What broke the present connections.
        """
        item = await self.items.get()
        while isinstance(item, MissingPagesChanged | Offered | Stands | Shown) or (
            isinstance(item, Broke) and item.attempt != self._protocol.attempt
        ):
            item = await self.items.get()  # the last one was left from when pages were missing
        return await self._last_words(item.error) if isinstance(item, Broke) else item

    async def _last_words(self, error: PageferryError) -> messages.Cancel | messages.Bye:
        """Return the last word of a source whose connections end; raise `error` if none comes.

        A source that cancels or says goodbye does so on one connection and closes the others:
        which of it arrives first is chance. Once the one has ended no word can follow.
        """
        if isinstance(error, ConnectionBroken):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS_S):
                    while not (self._ended and self.items.empty()):
                        item = await self.items.get()
                        if isinstance(item, messages.Cancel | messages.Bye):
                            return item
        raise error

    @property
    def _ended(self) -> bool:
        return self._reader is None or self._reader.done()

    # -- sources that come back -----------------------------------------------------------------

    def offer(self, connection: Connection, *, late: bool) -> None:
        """Take a source that is back on a new connection.

        Args:
            connection: Welcomed. The source may have seen the break before this end did.
            late: Whether nothing is missing any more.
        """
        offered = Offered(connection.attempt, connection)
        put_newest(self.offers if late else self.items, offered)
        if late:
            self.came_back.set()

    def keep_offers(self) -> None:
        """Save sources that came back for later, now that nothing is missing."""
        items = [self.items.get_nowait() for _ in range(self.items.qsize())]
        for item in items:
            if isinstance(item, Offered):
                self.offer(item.connection, late=True)
            elif not isinstance(item, MissingPagesChanged | Stands | Shown):
                self.items.put_nowait(item)


def put_newest(queue: Inbox[Any], offered: Offered) -> None:
    """Queue a source that is back; of several, only the newest attempt counts and is kept.

    Args:
        queue: Older offers are taken out of it and their connections closed.
        offered: Its connection is closed if the session's budget has no room for it.
    """
    for older in queue.take_back(lambda item: isinstance(item, Offered)):
        older.connection.close()
    if not queue.put_if_room(offered, OFFER_BYTES):  # its source tries again
        offered.connection.close()
