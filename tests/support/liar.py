"""Peers that speak our protocol, and then lie: a destination and a source, on loopback.

Either does all that is due, but at one step, where it says something else. What it may say is made
of a true message of each kind, with one field changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import math
import random
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, Self

import msgpack
import numpy as np

from pageferry.common.clock import clock_identity
from pageferry.common.config.guest import GuestConfig
from pageferry.common.errors import PageferryError
from pageferry.common.guest.control import STATE_WORDS, STEPS
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire import encoder, frames, messages
from pageferry.common.wire.bulk_receiver import BulkReceiver
from pageferry.common.wire.connection import Connection
from pageferry.common.wire.extents import from_pages
from pageferry.common.wire.messages import Hello
from pageferry.common.wire.results import WireBeats, WireCache
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.source_agent.prediction.loopback_probe import _Bin
from tests.unit.common.wire.test_messages import EXAMPLES

LIMIT_S: Final = 30.0
NUMBERS: Final = (-1, 0, 2**31, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
FLOATS: Final = (math.nan, math.inf, -math.inf, 1e308, -0.5)
OTHERS: Final[tuple[Any, ...]] = (
    *(None, True, "", "x" * 3000, "\x1b[2J\n", b"", b"\xff" * 100, [], [0] * 70, {}),
    *({"t_ms": 1}, {"a": {"b": {"c": []}}}, [[[[[[[[]]]]]]]]),
)


class Lie(NamedTuple):
    """What is said at that step, instead of what is due. what: for people."""

    step: str
    what: str
    body: bytes


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where there is a value, inside too; lists by their first."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _places(inner, (*path, key))
    elif isinstance(value, list | tuple) and value:
        yield from _places(value[0], (*path, 0))


def _changed(message: Any, path: tuple[Any, ...], value: Any) -> Any:
    made = copy.deepcopy(message)
    inside = made
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value
    return made


def lies(step: str, true: dict[str, Any]) -> Iterator[Lie]:
    """Each field of `true` with each value, and one too many and one too few."""
    kind = true["kind"]
    for path in _places(true):
        for value in (*NUMBERS, *FLOATS, *OTHERS):
            where = ".".join(map(str, path))
            body = msgpack.packb(_changed(true, path, value))
            yield Lie(step, f"{kind}.{where}={value!r:.40}", body)
    yield Lie(step, f"{kind} and more", msgpack.packb(true | {"more": 1}))
    for key in true:
        rest = {name: value for name, value in true.items() if name != key}
        yield Lie(step, f"{kind} without {key}", msgpack.packb(rest))


def others(step: str) -> Iterator[Lie]:
    """Every kind of message, true in itself, where perhaps another one is due."""
    for example in EXAMPLES:
        if example.kind == "pong":  # may always come; who says no more than that is waited for
            continue
        yield Lie(step, f"{example.kind} out of turn", messages.encode_message(example))
    for name, body in {
        "nothing": b"",
        "no map": msgpack.packb([1]),
        "no kind": msgpack.packb({"a": 1}),
        "depth": b"\x91" * 4000,
        "many": b"\xdc\xff\xff" + b"\xc0" * 65535,
        "promised": b"\xdd\xff\xff\xff\xff",
    }.items():
        yield Lie(step, name, body)


def sample(every: list[Lie], n: int, seed: int = 1) -> list[Lie]:
    """Some of them: at each step first one of each field, then one of each value, then others."""
    dice = random.Random(seed)  # noqa: S311
    by_step: dict[str, list[Lie]] = {}
    for lie in every:
        by_step.setdefault(lie.step, []).append(lie)
    share = -(-n // len(by_step))
    out = []
    for found in by_step.values():
        dice.shuffle(found)
        chosen: dict[str, Lie] = {}
        for part in (0, 2):  # field=value
            seen = {lie.what.partition("=")[part] for lie in chosen.values()}
            for lie in found:
                if (word := lie.what.partition("=")[part]) not in seen:
                    seen.add(word)
                    chosen[lie.what] = lie
        chosen |= {lie.what: lie for lie in found if lie.what not in chosen}
        out += list(chosen.values())[:share]
    return out


def plain(message: messages.Message) -> dict[str, Any]:
    return dict(msgpack.unpackb(messages.encode_message(message)))


# -- a destination -----------------------------------------------------------------------------


class LyingDestination:
    """Takes one migration. lie: what it says at one step; None: it is honest. Use as a context."""

    STEPS: Final = ("hello", "setup", "round", "commit", "finish")

    def __init__(self, lie: Lie | None) -> None:
        self._lie = lie
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._over = threading.Event()
        self._barriers: asyncio.Queue[int]
        self.resumed_ns = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join(20)
        self._listener.close()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._barriers = asyncio.Queue()
        tasks: set[asyncio.Task[None]] = set()
        accepting = self._loop.create_task(self._accept(tasks))
        await asyncio.to_thread(self._over.wait)
        for task in (accepting, *tasks):
            task.cancel()
        await asyncio.gather(accepting, *tasks, return_exceptions=True)

    async def _accept(self, tasks: set[asyncio.Task[None]]) -> None:
        while True:
            sock, _ = await self._loop.sock_accept(self._listener)
            sock.setblocking(False)
            tasks.add(self._loop.create_task(self._serve(Connection(sock, "source"))))

    async def _serve(self, connection: Connection) -> None:
        with contextlib.suppress(PageferryError):
            await connection.read_preface()
            await connection.send_preface()
            hello = await connection.expect(Hello)
            connection.belong(hello.attempt)
            if hello.role == "query":
                outcome = messages.CommitOutcome(
                    answer="running" if self.resumed_ns else "never",
                    resumed_ns=self.resumed_ns or None,
                    clock=clock_identity(),
                    peer_ns=time.monotonic_ns(),
                )
                await connection.send(outcome)
                await connection.linger()
            elif hello.role == "control":
                await self._control(connection)
            else:
                await connection.send(self._welcome())
                pages = connection, hello.attempt
                threading.Thread(target=self._receive_pages, args=pages, daemon=True).start()

    def _receive_pages(self, connection: Connection, attempt: int) -> None:
        """They are thrown away; until the source ends it."""
        sock = connection.detach()
        self._receive(
            BulkReceiver(sock, _Bin(), 2**20, stream=StreamFormat(checksum=True), attempt=attempt)
        )

    def _receive(self, receiver: BulkReceiver) -> None:
        def deliver(frame: Any) -> None:
            if isinstance(frame, frames.BarrierFrame):
                self._loop.call_soon_threadsafe(self._barriers.put_nowait, frame.index)

        with contextlib.suppress(PageferryError, RuntimeError):
            receiver.run(deliver)
        receiver.close()

    @staticmethod
    def _welcome() -> messages.Welcome:
        return messages.Welcome(version="1", host="liar", clock=clock_identity())

    async def _say(self, connection: Connection, step: str, due: messages.Message) -> None:
        body = messages.encode_message(due)
        if self._lie is not None and self._lie.step == step:
            body = self._lie.body
        await connection._write(encoder.encode_control(body))

    async def _control(self, connection: Connection) -> None:
        await self._say(connection, "hello", self._welcome())
        commit: messages.Commit | None = None
        setup: messages.Setup | None = None
        rounds = self._loop.create_task(self._rounds(connection))
        try:
            while True:
                message = await connection.receive()
                if isinstance(message, messages.Ping):
                    pong = messages.Pong(t_ns=message.t_ns, peer_ns=time.monotonic_ns())
                    await connection.send(pong)
                elif isinstance(message, messages.Setup):
                    setup = message
                    await self._say(connection, "setup", messages.Ready())
                elif isinstance(message, messages.Commit):
                    commit, self.resumed_ns = message, time.monotonic_ns()
                    await asyncio.sleep(0.05)  # the last round is said to be done before
                    resumed = messages.Resumed(t_ns=self.resumed_ns)
                    await self._say(connection, "commit", resumed)
                    assert setup is not None
                    await self._say(connection, "finish", self.finished(setup, commit))
        finally:
            rounds.cancel()
            connection.close()

    async def _rounds(self, connection: Connection) -> None:
        while True:
            index = await self._barriers.get()
            done = messages.RoundDone(index=index, t_ns=time.monotonic_ns())
            await self._say(connection, "round" if index == 1 else "later", done)

    def finished(self, setup: messages.Setup, commit: messages.Commit) -> messages.Finished:
        """As of a guest that has done nothing."""
        states = [np.frombuffer(state, "<u8") for state in commit.snapshot["vcpus"]]
        at = self.resumed_ns
        return messages.Finished(
            steps=[int(state[STEPS]) for state in states],
            digest=None,
            check=None,
            cpu_s=0.1,
            received_bytes=1000,
            beats=[
                WireBeats(first_ns=at, last_ns=at + 1000, gap_ns=10, gap_start_ns=at)
                for _ in range(setup.guest.vcpus)
            ],
            cache=WireCache(hits=0, misses=0, write_backs=0, spills=0, drained_lines=0)
            if setup.guest.cache
            else None,
            samples=[],
            events=[],
        )


# -- a source ----------------------------------------------------------------------------------

GUEST: Final = GuestConfig(memory=2**20, vcpus=2, workload="idle", seed=1)


def setup() -> messages.Setup:
    return messages.Setup(
        guest=GUEST,
        channels=1,
        congestion="cubic",
        run_after=0.0,
        verify=False,
        checksum=True,
        vcpu_nice=0,
    )


def commit() -> messages.Commit:
    state = np.zeros(STATE_WORDS, "<u8").tobytes()
    snapshot = {"version": 1, "workload": "idle", "vcpus": [state] * GUEST.vcpus}
    return messages.Commit(barrier=1, snapshot=snapshot)


class LyingSource:
    """Brings a guest to that port, and lies at one step. What it is answered is in `answers`."""

    STEPS: Final = ("hello", "setup", "before-pages", "commit", "running")

    def __init__(self, port: int, lie: Lie | None) -> None:
        self._port, self._lie = port, lie
        self.answers: list[str] = []
        self._session = f"{random.getrandbits(128):032x}"

    def _hello(self, role: Any) -> messages.Hello:
        return messages.Hello(role=role, session=self._session, token="0" * 64)

    async def _say(self, connection: Connection, step: str, due: messages.Message | None) -> None:
        if self._lie is not None and self._lie.step == step:
            await connection._write(encoder.encode_control(self._lie.body))
        elif due is not None:
            await connection.send(due)

    async def run(self) -> None:
        """As far as it gets; bounded."""
        with contextlib.suppress(PageferryError, OSError):
            async with asyncio.timeout(LIMIT_S):
                await self._run()

    async def _run(self) -> None:
        connection = await self._open("control")
        bulk: Connection | None = None
        try:
            await self._expect(connection, messages.Welcome)
            await self._say(connection, "setup", setup())
            await self._expect(connection, messages.Ready)
            bulk = await self._open("bulk")
            await bulk.expect(messages.Welcome)
            await self._say(connection, "before-pages", None)
            pages = from_pages(np.arange(GUEST.memory // PAGE_SIZE))
            await bulk._write(encoder.encode_zero(pages, checked=True))
            await bulk._write(encoder.encode_barrier(1, checked=True))
            await self._expect(connection, messages.RoundDone)
            await self._say(connection, "commit", commit())
            await self._expect(connection, messages.Resumed)
            await self._say(connection, "running", None)
            await self._expect(connection, messages.Finished)
            await connection.send(messages.Bye())
        finally:
            connection.close()
            if bulk is not None:
                bulk.close()

    async def _expect(self, connection: Connection, kind: Any) -> None:
        async with asyncio.timeout(5):
            message = await connection.receive()
        self.answers.append(message.kind)
        if not isinstance(message, kind):
            raise PageferryError("something else")

    async def _open(self, role: Any) -> Connection:
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self._port))
        connection = Connection(sock, "dest")
        connection.belong(0)
        await connection.send_preface()
        step = "hello" if role == "control" else ""
        await self._say(connection, step, self._hello(role))
        await connection.read_preface()
        return connection
