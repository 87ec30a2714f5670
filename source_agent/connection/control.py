"""The source's end of the control connection: a reader that is always listening."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from pageferry.common.clock import ClockSample, best_sample
from pageferry.common.errors import PageferryError, PeerRefused, PeerSilent, RemoteProtocolError
from pageferry.common.process.aio import quit_task
from pageferry.common.process.threads import failure_of
from pageferry.common.wire import messages
from pageferry.common.wire.budget import Budget
from pageferry.common.wire.connection import Connection
from pageferry.common.wire.inbox import Inbox
from pageferry.common.wire.messages import Message

CLOCK_SAMPLES: Final = 16
ANSWER_S: Final = 30.0  # longer than any single step of a live destination
# Both ends take silence for death. The source speaks this often and is answered at once.
BEAT_S: Final = 0.25

_M = TypeVar("_M", bound=Message)
_T = TypeVar("_T")


class SourceControl:
    """Messages in order, and failures as soon as they are known.

    While the session is busy sending pages, nobody waits for a message. The reader does. Make it on
    the event loop.

    Args:
        connection: Welcomed, or at least opened; `close` closes it.
        on_failure: Is told, on the loop, when the destination gives up or the connection breaks;
            once.
        budget: The session's, from which messages draw.
    """

    def __init__(
        self,
        connection: Connection,
        on_failure: Callable[[PageferryError], None],
        budget: Budget,
    ) -> None:
        connection.charge(budget)
        self._connection = connection
        self._on_failure = on_failure
        self._inbox: Inbox[Message] = Inbox(budget)
        self._pongs: asyncio.Queue[Message] = asyncio.Queue()  # may come between any two others
        self._awaited_ns = -1  # the clock sample whose answer is awaited
        self._failure: PageferryError | None = None
        self._failed = asyncio.Event()
        self._reader = asyncio.create_task(self._read(), name="control-reader")
        self._heart = asyncio.create_task(self._beat(), name="control-heart")

    @property
    def peer(self) -> str:
        """The destination as HOST:PORT."""
        return self._connection.peer

    @property
    def heard_s(self) -> float:
        """When something came last, CLOCK_MONOTONIC seconds."""
        return self._connection.heard_at

    @property
    def wire_bytes(self) -> int:
        """Bytes of both directions."""
        return self._connection.sent_bytes + self._connection.received_bytes

    async def _read(self) -> None:
        try:
            while True:
                message = await self._connection.receive()
                if isinstance(message, messages.Failed):
                    raise PeerRefused(f"{self.peer} gave up: {message.reason}")
                if isinstance(message, messages.Refuse):
                    raise PeerRefused(f"{self.peer} refused: {message.reason}")
                if not isinstance(message, messages.Pong):
                    await self._inbox.take_in(message, self._connection.take_over())
                elif message.t_ns == self._awaited_ns:
                    self._awaited_ns = -1  # each is answered once
                    self._pongs.put_nowait(message)
        except Exception as error:  # noqa: BLE001 - who waits for a message must hear of it
            self.fail(failure_of(error))

    def fail(self, error: PageferryError) -> None:
        """Raise this error at whoever waits for a message, now or later.

        Args:
            error: Only the first one counts, wherever it comes from.
        """
        if self._failure is not None:
            return
        self._failure = error
        self._failed.set()
        self._on_failure(error)

    async def _beat(self) -> None:
        """Say that we live, and make the destination say so, too."""
        try:
            while True:
                await asyncio.sleep(BEAT_S)
                await self._connection.send(messages.Ping(t_ns=time.monotonic_ns()))
        except PageferryError:
            pass  # the reader says why
        except Exception as error:  # noqa: BLE001 - without it the destination gives us up
            self.fail(failure_of(error))

    async def send(self, message: Message) -> None:
        """Send a message.

        Args:
            message: Whether the protocol allows it now is not checked here.

        Raises:
            PageferryError: The reader's failure where there is one, as it says more than a broken
                pipe.
        """
        try:
            await self._connection.send(message)
        except PageferryError:
            if self._failure is not None:
                raise self._failure from None
            raise

    async def wait(self) -> Message:
        """Wait for the next message, whatever it is and whenever it comes.

        Returns:
            The message; never a pong, a refusal or a failure.

        Raises:
            PageferryError: Whatever has ended the connection.
        """
        return await self._next(self._inbox)

    async def expect(self, kind: type[_M], *, timeout_s: float = ANSWER_S) -> _M:
        """Wait for the next message, which must be of this kind.

        Args:
            kind: Class of the message; `Pong` has a queue of its own.
            timeout_s: How many seconds it may take.

        Returns:
            The message.

        Raises:
            PeerSilent: Nothing came in that time.
            RemoteProtocolError: Another message came.
            PageferryError: Whatever has ended the connection.
        """
        name = str(kind.model_fields["kind"].default)
        message = await self._within(timeout_s, name, pong=kind is messages.Pong)
        if not isinstance(message, kind):
            raise RemoteProtocolError(f"{self.peer} sent {message.kind}, expected {name}")
        return message

    async def welcome(self, timeout_s: float) -> messages.Welcome | messages.CommitOutcome:
        """Wait for the answer to a source that comes back.

        Args:
            timeout_s: How many seconds it may take.

        Returns:
            The welcome; the outcome where the session has ended there.

        Raises:
            PeerSilent: Nothing came in that time.
            RemoteProtocolError: Another message came.
            PageferryError: Whatever has ended the connection.
        """
        message = await self._within(timeout_s, "welcome")
        if not isinstance(message, messages.Welcome | messages.CommitOutcome):
            raise RemoteProtocolError(f"{self.peer} sent {message.kind}, expected welcome")
        return message

    async def _within(self, timeout_s: float, name: str, *, pong: bool = False) -> Message:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._next(self._pongs if pong else self._inbox)
        except TimeoutError:
            raise PeerSilent(f"{self.peer} sent no {name} within {timeout_s:g} s") from None

    async def probe(self) -> float:
        """Ask the destination for an answer, end to end; takes as long as it takes.

        Returns:
            Seconds until it answered.

        Raises:
            PageferryError: Whatever has ended the connection.
        """
        return await self._unless_failed(self._connection.probe())

    async def _next(self, queue: asyncio.Queue[Message]) -> Message:
        return await self._unless_failed(queue.get())

    async def _unless_failed(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Return what `work` gives; raises the reader's failure where that comes first."""
        task = asyncio.create_task(work)
        failed = asyncio.create_task(self._failed.wait())
        try:
            await asyncio.wait({task, failed}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            assert self._failure is not None  # noqa: S101 - set before the event
            raise self._failure
        finally:
            if not task.done():
                await quit_task(task)
            failed.cancel()

    async def sample_clock(self) -> ClockSample:
        """Sample the destination's clock by `CLOCK_SAMPLES` pairs of request and answer.

        Returns:
            The sample with the shortest round trip.

        Raises:
            PeerSilent: An answer did not come.
            PageferryError: Whatever has ended the connection.
        """
        samples = []
        for _ in range(CLOCK_SAMPLES):
            t0 = self._awaited_ns = time.monotonic_ns()
            await self.send(messages.Ping(t_ns=t0))
            pong = await self.expect(messages.Pong)
            samples.append(ClockSample(t0, pong.peer_ns, time.monotonic_ns()))
        return best_sample(samples)

    async def close(self) -> None:
        """End the reader and the connection; idempotent."""
        await quit_task(self._heart)
        await quit_task(self._reader)
        self._connection.close()
