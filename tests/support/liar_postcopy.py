"""Peers that lie while pages are missing, in a recovery, or as the answer to a question.

Each lies once; whoever is lied to may come back, or ask again, and meets an honest one.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import Any, Final

import numpy as np

from pageferry.common.clock import clock_identity
from pageferry.common.errors import PageferryError
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire import bitmap, encoder, messages
from pageferry.common.wire.connecting import connect
from pageferry.common.wire.connection import Connection
from pageferry.common.wire.extents import from_pages
from tests.support import liar
from tests.support.liar import GUEST, Lie, LyingDestination

_N_PAGES: Final = GUEST.memory // PAGE_SIZE
_ALL: Final = bitmap.pack(np.ones(_N_PAGES, np.bool_))


class LyingAfterwards(LyingDestination):
    """Takes a guest, and loses its source by a lie, or before it.

    The steps: `postcopy`, a message while pages are missing; `recover` and `resync`, the answers to
    a source that is back; `query`, that to the question what became of the commit.
    """

    def __init__(self, lie: Lie | None) -> None:
        super().__init__(lie)
        self._step = None if lie is None else lie.step
        self._commit: messages.Commit | None = None
        self._setup: messages.Setup | None = None

    async def _say(self, connection: Connection, step: str, due: messages.Message) -> None:
        lied = self._lie is not None and self._lie.step == step
        await super()._say(connection, step, due)
        if lied:
            self._lie = None

    async def _serve(self, connection: Connection) -> None:
        with contextlib.suppress(PageferryError), contextlib.closing(connection):
            await connection.read_preface()
            await connection.send_preface()
            hello = await connection.expect(messages.Hello)
            connection.belong(hello.attempt)
            await self._meet(connection, hello)

    async def _meet(self, connection: Connection, hello: messages.Hello) -> None:
        welcome = self._welcome().model_copy(update={"attempt": hello.attempt})
        if hello.role == "query":
            await self._say(connection, "query", self.outcome())
            await connection.linger()
        elif hello.role == "recover":
            await self._say(connection, "recover", welcome)
            await self._say(connection, "resync", messages.Resync(missing=_ALL))
            await self._follow(connection)
        elif hello.role == "control":
            await self._control(connection)
        elif hello.role == "bulk":
            await connection.send(welcome)
            await asyncio.to_thread(self._receive_pages, connection, hello.attempt)
        else:
            await connection.send(welcome)
            while True:  # probes are answered, and nothing is demanded
                await connection.receive()

    def outcome(self) -> messages.CommitOutcome:
        return messages.CommitOutcome(
            answer="running" if self.resumed_ns else "never",
            resumed_ns=self.resumed_ns or None,
            clock=clock_identity(),
            peer_ns=time.monotonic_ns(),
        )

    async def _control(self, connection: Connection) -> None:
        await connection.send(self._welcome())
        rounds = self._loop.create_task(self._rounds(connection))
        try:
            await self._until_committed(connection)
            if self._step == "query":
                return  # its answer is lost
            await connection.send(messages.Resumed(t_ns=self.resumed_ns))
            if self._step == "postcopy":
                if self._lie is not None:
                    await self._say(connection, "postcopy", messages.Bye())
                await self._follow(connection)
        finally:
            rounds.cancel()
            connection.close()

    async def _until_committed(self, connection: Connection) -> None:
        while self._commit is None:
            message = await connection.receive()
            if isinstance(message, messages.Ping):
                await self._pong(connection, message)
            elif isinstance(message, messages.Setup):
                self._setup = message
                postcopy = message.postcopy
                ready = messages.Ready() if postcopy is None else messages.Ready(faults="software")
                await connection.send(ready)
            elif isinstance(message, messages.Commit):
                self._commit, self.resumed_ns = message, time.monotonic_ns()

    @staticmethod
    async def _pong(connection: Connection, ping: messages.Ping) -> None:
        await connection.send(messages.Pong(t_ns=ping.t_ns, peer_ns=time.monotonic_ns()))

    async def _follow(self, connection: Connection) -> None:
        """All pages have come, and here is the result; until the source goes."""
        await connection.send(messages.Complete(t_ns=time.monotonic_ns()))
        assert self._setup is not None
        assert self._commit is not None
        await connection.send(self.finished(self._setup, self._commit))
        while True:
            message = await connection.receive()
            if isinstance(message, messages.Ping):
                await self._pong(connection, message)


class LyingInPostcopy:
    """A source that brings a guest all of whose pages are missing, and lies at one step, once.

    The steps: `postcopy` and `joined`, a message while pages are missing, on the first attempt or
    a later one; `recover`, in place of the hello of who comes back.
    """

    STEPS: Final = ("postcopy", "recover", "joined")

    def __init__(self, port: int, lie: Lie | None, number: int) -> None:
        self._port, self._lie = port, lie
        self._session = f"{number:032x}"
        self.answers: list[str] = []

    def hello(self, role: Any, attempt: int) -> messages.Hello:
        return messages.Hello(role=role, session=self._session, token="0" * 64, attempt=attempt)

    async def run(self) -> None:
        """Until it has the result; bounded."""
        with contextlib.suppress(PageferryError, OSError):
            async with asyncio.timeout(liar.LIMIT_S):
                await self._switch()
                await self._come_back()

    async def _dial(self, role: str, attempt: int) -> Connection:
        hello = self.hello(role, attempt)
        connection = await connect("127.0.0.1", self._port, hello)
        if role in ("bulk", "urgent"):
            await connection.expect(messages.Welcome)
        return connection

    async def _expect(self, connection: Connection, kind: Any) -> None:
        message = await connection.receive()
        while isinstance(message, messages.Pong):
            message = await connection.receive()
        self.answers.append(message.kind)
        if not isinstance(message, kind):
            raise PageferryError(f"{message.kind} came")

    async def _lies(self, connection: Connection, step: str) -> None:
        """At that step: until the destination has closed the connection."""
        if self._lie is None or self._lie.step != step:
            return
        await connection._write(encoder.encode_control(self._lie.body))
        with contextlib.suppress(PageferryError):
            while True:
                await connection.receive()

    async def _switch(self) -> None:
        control = await self._dial("control", 0)
        await self._expect(control, messages.Welcome)
        postcopy = messages.PostcopySetup(
            faults="software", prepage=0, recover_timeout=10.0, trace_faults=False
        )
        await control.send(liar.setup().model_copy(update={"postcopy": postcopy}))
        await self._expect(control, messages.Ready)
        others = [await self._dial(role, 0) for role in ("bulk", "urgent")]
        await others[0]._write(encoder.encode_barrier(1, checked=True))
        await self._expect(control, messages.RoundDone)
        await control.send(liar.commit().model_copy(update={"missing": _ALL}))
        await self._expect(control, messages.Resumed)
        await self._lies(control, "postcopy")
        for connection in (control, *others):
            connection.close()

    async def _come_back(self) -> None:
        if self._lie is not None and self._lie.step == "recover":
            connection = await _raw("127.0.0.1", self._port)
            await self._lies(connection, "recover")
            connection.close()
        if self._lie is not None and self._lie.step == "joined":
            control = await self._join(1)
            others = [await self._dial(role, 1) for role in ("bulk", "urgent")]
            await self._lies(control, "joined")
            for connection in (control, *others):
                connection.close()
        control = await self._join(2)
        others = [await self._dial(role, 2) for role in ("bulk", "urgent")]
        pages = from_pages(np.arange(_N_PAGES))
        await others[0]._write(encoder.encode_zero(pages, checked=True))
        await self._expect(control, messages.Complete)
        await self._expect(control, messages.Finished)
        await control.send(messages.Bye())
        for connection in (control, *others):
            connection.close()

    async def _join(self, attempt: int) -> Connection:
        control = await self._dial("recover", attempt)
        await self._expect(control, messages.Welcome)
        await self._expect(control, messages.Resync)
        return control


async def _raw(host: str, port: int) -> Connection:
    """A connection on which no hello has been said."""
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (host, port))
    connection = Connection(sock, "dest")
    connection.belong(1)
    await connection.send_preface()
    return connection
