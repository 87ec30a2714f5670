"""Control connections, which is what the other kinds begin as, too.

A `Connection` lives on the event loop and carries control messages. A bulk connection begins as
one, and after its handshake is detached to a thread with a blocking socket (`bulk_sender`,
`bulk_receiver`), because that is what moves pages fastest and needs the loop least. Bytes of guest
memory go straight from memory to the socket and from the socket to where they belong; Python never
copies them.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import Final, TypeVar

from pageferry.common.errors import PageferryError, PeerRefused, RemoteProtocolError
from pageferry.common.wire import bounds, decoder, encoder, frames, messages
from pageferry.common.wire.budget import Budget
from pageferry.common.wire.link_policy import STALL_S
from pageferry.common.wire.messages import Message
from pageferry.common.wire.probes import AnswerFrame, OutstandingProbes, ProbeFrame
from pageferry.common.wire.socket_stream import SocketStream
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.common.wire.tcp import hurry
from pageferry.common.wire.tls_threads import plain_end

# Of a message that draws nothing: one that keeps a connection alive must not wait for pages.
_FREE_BYTES: Final = 64 * 1024

_M = TypeVar("_M", bound=Message)


class Connection(SocketStream):
    """A control connection: typed messages over one socket of the running loop, and probes.

    Args:
        sock: Connected and non-blocking; closed by `close`, unless it is detached before.
        peer: HOST:PORT, for messages.
        stall_s: A peer that takes or says nothing for so long counts as gone.
    """

    def __init__(self, sock: socket.socket, peer: str, stall_s: float = STALL_S) -> None:
        super().__init__(sock, peer, stall_s)
        self._decoder = decoder.FrameDecoder(stream=StreamFormat(checksum=True))
        self._asked = OutstandingProbes()
        self._answered = asyncio.Condition()
        self._inbox: deque[Message] = deque()
        self._budget: Budget | None = None
        self._drawn = 0  # by the message that is read, or was given last

    def limit(self, most: int) -> None:
        """Limit the messages that are taken from now on.

        Args:
            most: Bytes of one.
        """
        self._decoder.legal.most_control = most

    def charge(self, budget: Budget) -> None:
        """Draw what messages take from a budget from now on, before they are read and unpacked.

        Args:
            budget: The session's.
        """
        self._budget = budget

    def take_over(self) -> int:
        """Take over what was drawn for the message that `receive` returned last.

        Returns:
            Bytes, which the caller gives back to the budget.
        """
        drawn, self._drawn = self._drawn, 0
        return drawn

    async def _draw(self, n: int) -> None:
        if self._budget is not None and n > max(self._drawn, _FREE_BYTES):
            await self._budget.take(n - self._drawn, self._drawn)
            self._drawn = n

    def _give_back(self) -> None:
        if self._budget is not None and self._drawn:
            self._budget.give(self.take_over())

    def belong(self, attempt: int) -> None:
        """Make probes legal from now on.

        Args:
            attempt: The connection's, as its hello says.
        """
        self._decoder.legal.attempt = attempt

    @property
    def attempt(self) -> int:
        """Which of the session's attempts this connection belongs to; after `belong`."""
        assert self._decoder.legal.attempt is not None  # noqa: S101 - there was a hello
        return self._decoder.legal.attempt

    async def send_preface(self) -> None:
        """Open our direction of the stream; fail as `send`."""
        await self._write(encoder.encode_preface())

    async def read_preface(self) -> None:
        """Read and check the peer's preface.

        Raises:
            ConnectionBroken: If it does not come.
            RemoteProtocolError: If it is not of our kind and version.
        """
        data = await self._read_exactly(frames.PREFACE.size)
        decoder.check_preface(data)

    async def send(self, message: Message) -> None:
        """Send one message; wait until the kernel has taken it.

        Args:
            message: Of any kind.

        Raises:
            ConnectionBroken: If the connection broke, or (`PeerSilent`) the peer takes nothing.
            LocalProtocolError: If the message is too large or can't be packed.
        """
        await self._write(encoder.encode_control(messages.encode_message(message)))

    async def receive(self) -> Message:
        """Wait for the next message; answer probes meanwhile.

        Returns:
            The message; see `take_over` for what was drawn for it.

        Raises:
            ConnectionBroken: If the connection ended, or (`PeerSilent`) nothing came for `stall_s`.
            RemoteProtocolError: If something illegal came.
        """
        if not self._inbox:
            self._give_back()  # nobody has taken over what the one before had drawn
        while not self._inbox:
            await self._draw(self._decoder.held + self._decoder.due)
            n = await self._read_into(self._decoder.buffers()[0], self._stall_s)
            for frame in self._decoder.received(n):
                await self._take(frame)
        return self._inbox.popleft()

    async def _take(self, frame: frames.Frame) -> None:
        if isinstance(frame, frames.ControlFrame):
            await self._draw(bounds.check_bounds(frame.body))
            self._inbox.append(messages.unpack_message(frame.body))
        elif isinstance(frame, ProbeFrame):
            await self._write(encoder.encode_answer(frame.attempt, frame.number, checked=True))
        elif isinstance(frame, AnswerFrame):
            self._asked.take(frame.number, time.monotonic())
            async with self._answered:
                self._answered.notify_all()
        else:
            raise RemoteProtocolError(f"{self.peer} sent a bulk frame on a control channel")

    async def probe(self) -> float:
        """Ask the peer, end to end.

        Somebody has to `receive` meanwhile, and to bound the time: who is cancelled may ask again.

        Returns:
            Seconds until it has answered.

        Raises:
            ConnectionBroken: As `send`.
        """
        async with self._write_lock:  # numbered in the order in which they leave
            number = self._asked.next(time.monotonic())
            wanted = self._asked.answered + len(self._asked)
            await self._put(encoder.encode_probe(self.attempt, number, checked=True))
        async with self._answered:
            await self._answered.wait_for(lambda: self._asked.answered >= wanted)
        assert self._asked.round_trip_s is not None  # noqa: S101 - one has been answered
        return self._asked.round_trip_s

    async def expect(self, kind: type[_M]) -> _M:
        """Receive the next message, which must be of one kind.

        Args:
            kind: Its class.

        Returns:
            The message.

        Raises:
            PeerRefused: If it is a refusal or a failure.
            RemoteProtocolError: If it is of another kind, or illegal.
            ConnectionBroken: As `receive`.
        """
        message = await self.receive()
        if isinstance(message, kind):
            return message
        if isinstance(message, messages.Refuse):
            raise PeerRefused(f"{self.peer} refused: {message.reason}")
        if isinstance(message, messages.Failed):
            raise PeerRefused(f"{self.peer} gave up: {message.reason}")
        raise RemoteProtocolError(
            f"{self.peer} sent {message.kind}, expected {kind.model_fields['kind'].default}"
        )

    def detach_urgent(self, tell: Callable[[PageferryError], None] | None = None) -> socket.socket:
        """Hand the socket over to compiled code, which uses its descriptor for requests and pages.

        Args:
            tell: See `tls_threads.plain_end`.

        Returns:
            The socket, or with TLS a local one in front of it; the caller closes it.
        """
        sock = self.detach()
        hurry(sock)
        return plain_end(sock, tell) if isinstance(sock, ssl.SSLSocket) else sock

    def close(self) -> None:
        """Close at once, and give back what was drawn; idempotent."""
        super().close()
        self._give_back()
