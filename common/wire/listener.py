"""Who comes in: TLS or not, preface, hello; whatever is no agent of ours is turned away.

Everything here has limits, because everybody may knock: how many are on their way in, how long that
may take, how much they may say.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Final

from pageferry.common.capacity.descriptors import descriptor_limit
from pageferry.common.capacity.exhausted import ran_out
from pageferry.common.errors import PageferryError, RemoteProtocolError
from pageferry.common.wire import tls
from pageferry.common.wire.addresses import format_address, host_of, listen_on
from pageferry.common.wire.connecting import HANDSHAKE_S
from pageferry.common.wire.connection import Connection
from pageferry.common.wire.eviction import first_to_go
from pageferry.common.wire.link_policy import STALL_S
from pageferry.common.wire.messages import Hello, Refuse
from pageferry.common.wire.socket_stream import LINGER_S
from pageferry.common.wire.tcp import os_reason

MAX_HANDSHAKES: Final = 256  # at once; one more, and the oldest of the network with the most goes
MAX_LEAVING: Final = 64  # turned away, and may still read why
HELLO_BYTES: Final = 4096  # of any message, from a peer that has not set up a guest


class Listener:
    """Accepts connections, and hands each to `serve` once it has said hello.

    At most `MAX_HANDSHAKES` are on their way there, so that those who say nothing keep nobody out.

    Args:
        serve: Owns the connection from then on. What is not a pageferry agent never reaches it.
        complain: Gets one line for people on each connection that is turned away or fails.
        secure: Over TLS only; None: without TLS only.
        stall_s: Of the connections, see `Connection`.
    """

    def __init__(
        self,
        serve: Callable[[Connection, Hello], Awaitable[None]],
        complain: Callable[[str], None],
        secure: ssl.SSLContext | None = None,
        stall_s: float = STALL_S,
    ) -> None:
        self._secure = secure
        self._stall_s = stall_s
        self._serve = serve
        self._complain = complain
        self._sockets: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._strangers: dict[Connection, asyncio.Task[None]] = {}  # in the order of their coming
        self._leaving = 0

    def listen(self, host: str, port: int, *, loopback_only: bool = False) -> list[tuple[str, int]]:
        """Bind to every address of a host; before `run`.

        Args:
            host: A name or a numeric address.
            port: TCP port; 0: a free one.
            loopback_only: Refuse addresses that other hosts can reach.

        Returns:
            Numeric host and port of each.

        Raises:
            UsageError: If it can't listen there, or must not.
        """
        self._sockets = listen_on(host, port, MAX_HANDSHAKES, loopback_only=loopback_only)
        bound = [sock.getsockname() for sock in self._sockets]
        return [(host_of(address), int(address[1])) for address in bound]

    async def run(self) -> None:
        """Accept until cancelled; then end all that `serve` still does."""
        assert self._sockets, "listen() comes first"  # noqa: S101
        try:
            async with asyncio.TaskGroup() as group:
                for sock in self._sockets:
                    group.create_task(self._accept(sock))
        finally:
            for sock in self._sockets:
                sock.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(listening)
            except OSError as error:
                # Out of descriptors, or a peer that left while it waited: later ones may succeed.
                words = ran_out(error) or os_reason(error)
                self._complain(f"a connection could not be accepted: {words}")
                await asyncio.sleep(0.1)
                continue
            sock.setblocking(False)
            self._make_room()
            connection = Connection(sock, format_address(address), self._stall_s)
            task = asyncio.create_task(self._handshake(connection))
            self._strangers[connection] = task
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _make_room(self) -> None:
        most = min(MAX_HANDSHAKES, max(descriptor_limit() // 4, 1))  # others need some, too
        if len(self._strangers) < most:
            return
        first = first_to_go(
            self._strangers,
            lambda connection: connection.network,
            lambda connection: connection.peer_certificate is not None,
        )
        assert first is not None  # noqa: S101 - there are some
        task = self._strangers.pop(first)
        task.cancel()
        task.add_done_callback(lambda _task: first.close())  # it may not even have begun
        self._complain(
            f"{first.peer} was dropped without a hello: {most} others are there, most of them from"
            " its address"
        )

    async def _handshake(self, connection: Connection) -> None:
        try:
            try:
                hello = await self._meet(connection)
            finally:
                self._strangers.pop(connection, None)
            if hello is not None:
                await self._serve(connection, hello)
        except Exception as error:  # noqa: BLE001 - out of descriptors, say: others go on
            words = ran_out(error) or f"unexpected {type(error).__name__}: {error}"
            self._complain(f"{connection.peer}: {words}")
            connection.close()

    async def _meet(self, connection: Connection) -> Hello | None:
        """Return the hello; None: the connection was turned away.

        The time limit is for all of it, however slowly it trickles.
        """
        peer = connection.peer
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                return await self._hello(connection)
        except TimeoutError:
            self._complain(f"{peer} connected and did not say hello within {HANDSHAKE_S:.0f} s")
            connection.close()
        except PageferryError as error:
            self._complain(f"{peer} was turned away: {error}")
            self._strangers.pop(connection, None)
            await self._see_off(connection)
        except OSError as error:  # it was gone before its options could be set
            self._complain(f"{peer} was turned away: {os_reason(error)}")
            connection.close()
        except BaseException:
            connection.close()
            raise
        return None

    async def _see_off(self, connection: Connection) -> None:
        """Let it read why it was turned away, unless many do."""
        if self._leaving >= MAX_LEAVING:
            connection.close()
            return
        self._leaving += 1
        try:
            await connection.linger()
        finally:
            self._leaving -= 1

    async def _hello(self, connection: Connection) -> Hello:
        connection.tune()
        connection.limit(HELLO_BYTES)
        await self._agree_on_tls(connection)
        try:
            await connection.read_preface()
        except RemoteProtocolError as error:
            if "version" in str(error):  # an agent like us: let it see which version we speak
                await connection.send_preface()
            raise
        await connection.send_preface()
        hello = await connection.expect(Hello)
        connection.belong(hello.attempt)
        return hello

    async def _agree_on_tls(self, connection: Connection) -> None:
        """Use TLS if it is asked for here, and only then; who differs is told, if it is one of us.

        Raises:
            RemoteProtocolError: If the peer differs, or TLS with it fails.
        """
        if await connection.starts_tls() != (self._secure is not None):
            if self._secure is None:
                raise RemoteProtocolError("it speaks TLS, and this destination has no --tls")
            with contextlib.suppress(PageferryError, TimeoutError):
                async with asyncio.timeout(LINGER_S):
                    await connection.read_preface()
                    await connection.send_preface()
                    await connection.send(
                        Refuse(reason="this destination takes TLS only: --tls DIR")
                    )
            raise RemoteProtocolError("it speaks no TLS, and this destination takes nothing else")
        if self._secure is not None:
            try:
                await connection.secure(self._secure)
            except OSError as error:
                words = (
                    tls.tls_reason(error) if isinstance(error, ssl.SSLError) else os_reason(error)
                )
                raise RemoteProtocolError(f"no TLS with it: it {words}") from None
