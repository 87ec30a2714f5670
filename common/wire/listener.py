"""Who comes in: TLS or not, preface, hello; what is no agent of ours is let go.

Everything here has limits, because everybody may knock: how many are on their way in, how long that
may take, how much they may say.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Final

from common.capacity.descriptors import descriptor_limit
from common.capacity.exhausted import ran_out
from common.errors import PageferryError, RemoteProtocolError, UsageError
from common.wire import tls
from common.wire.channel import HANDSHAKE_S, LINGER_S, STALL_S, Connection, why
from common.wire.messages import Hello, Refuse

MAX_HANDSHAKES: Final = 128  # at once; one more, and the one that has been silent longest goes
HELLO_BYTES: Final = 4096  # of any message, from a peer that has not set up a guest


class Listener:
    """Accepts connections, and hands each to `serve` once it has said hello.

    `serve` owns the connection from then on. What is not a pageferry agent is reported to
    `complain` in one line and closed; it never reaches `serve`. At most `MAX_HANDSHAKES` are on
    their way there, so that those who say nothing keep nobody out. secure: over TLS only.
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
        self._sock: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._strangers: dict[Connection, asyncio.Task[None]] = {}

    def listen(self, host: str, port: int, *, loopback_only: bool = False) -> tuple[str, int]:
        """Bind; returns the address. Raises `UsageError` where it can't be had."""
        try:
            info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
                0
            ]
            sock = socket.socket(info[0], info[1], info[2])
        except OSError as error:
            raise UsageError(f"can't listen on {shown(host, port)}: {error.strerror}") from None
        if loopback_only and not _is_loopback(str(info[4][0])):
            sock.close()
            raise UsageError(
                f"--listen {shown(host, port)} is open to other hosts, and without TLS anybody"
                " there could read the guest or send one: give --tls DIR (pageferry certs makes"
                " it), listen on 127.0.0.1, or say --insecure"
            )
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(info[4])
            sock.listen(MAX_HANDSHAKES)
        except OSError as error:
            sock.close()
            raise UsageError(f"can't listen on {shown(host, port)}: {why(error)}") from None
        sock.setblocking(False)
        self._sock = sock
        bound = sock.getsockname()
        return str(bound[0]), int(bound[1])

    async def run(self) -> None:
        """Accept until cancelled."""
        assert self._sock is not None, "listen() comes first"  # noqa: S101
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    sock, address = await loop.sock_accept(self._sock)
                except OSError as error:
                    # Out of descriptors, or a peer that left while it waited: later ones may do.
                    words = ran_out(error) or why(error)
                    self._complain(f"a connection could not be accepted: {words}")
                    await asyncio.sleep(0.1)
                    continue
                sock.setblocking(False)
                self._make_room()
                connection = Connection(sock, f"{address[0]}:{address[1]}", self._stall_s)
                task = asyncio.create_task(self._handshake(connection))
                self._strangers[connection] = task
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        finally:
            self._sock.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _make_room(self) -> None:
        most = min(MAX_HANDSHAKES, max(descriptor_limit() // 4, 1))  # others need some, too
        if len(self._strangers) < most:
            return
        silent = min(self._strangers, key=lambda connection: connection.heard_at)
        task = self._strangers.pop(silent)
        task.cancel()
        task.add_done_callback(lambda _task: silent.close())  # it may not even have begun
        self._complain(f"{silent.peer} was dropped without a hello: {most} others came after it")

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
        """None: it has been turned away. The time limit is for all of it, however it trickles."""
        peer = connection.peer
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                return await self._hello(connection)
        except TimeoutError:
            self._complain(f"{peer} connected and did not say hello within {HANDSHAKE_S:.0f} s")
            connection.close()
        except PageferryError as error:
            self._complain(f"{peer} was turned away: {error}")
            await connection.linger()
        except OSError as error:  # it was gone before its options could be set
            self._complain(f"{peer} was turned away: {why(error)}")
            connection.close()
        except BaseException:
            connection.close()
            raise
        return None

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
        """TLS if it is asked for here, and only then; whoever differs is told, if it is one of us.

        Raises `RemoteProtocolError`.
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
                words = tls.why(error) if isinstance(error, ssl.SSLError) else why(error)
                raise RemoteProtocolError(f"no TLS with it: it {words}") from None


def shown(host: str, port: int) -> str:
    """HOST:PORT, as it is written: `[::1]:4444`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
