"""Two ends of a post-copy over a network that cuts, delays and reorders whole connections.

The ends are the agents' own code: `source_agent.postcopy.phase.PostcopyPhase` and
`dest_agent.postcopy.fetching`, with `common.recovery` and `common.handover`. What they talk over is
made up here: connections whose beginnings and messages take as long as the seed says, and that
either end sees broken when its time has come. Pages are numbers. Time is virtual.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pageferry.common.errors import ConnectionBroken, PageferryError
from pageferry.common.process.aio import quit_task
from pageferry.common.timeline import Timeline
from pageferry.common.wire import messages
from pageferry.dest_agent.postcopy.fetching import (
    Broke,
    Fetching,
    MissingPagesChanged,
    Offered,
    Stands,
    await_late_source,
)
from pageferry.dest_agent.protocol import DestProtocol
from pageferry.source_agent.postcopy.phase import PostcopyPhase
from pageferry.source_agent.protocol import SourceProtocol

PAGES = 40
PAGE_S = 0.05  # between two pages that are pushed
LIMIT_S = 30.0


@dataclass
class World:
    """What the seed has in store. cuts: when everything that stands or is on its way breaks."""

    cuts: list[float]
    delay_s: Callable[[], float]
    wires: list[Wire] = field(default_factory=list)  # since the last cut
    made: int = 0  # cuts that hit something
    attempts: int = 0
    last_word_s: float | None = None  # when the source heard that nothing is missing

    async def cut(self) -> None:
        for moment in sorted(self.cuts):
            await asyncio.sleep(max(moment - asyncio.get_running_loop().time(), 0.0))
            alive = [wire for wire in self.wires if not wire.broken]
            self.made += bool(alive)
            for wire in alive:
                wire.cut()
            self.wires.clear()


class End:
    """One end of a wire."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.inbox: asyncio.Queue[Any] = asyncio.Queue()
        self.closed = False
        self.arrives_s = 0.0  # when the last message that was sent to here does: order is kept

    @property
    def other(self) -> End:
        wire = self.wire
        return wire.dest if self is wire.source else wire.source

    def send(self, message: Any) -> None:
        if self.closed:
            raise ConnectionBroken("it is closed")
        if not self.wire.broken:
            self.other.later(lambda to: to.inbox.put_nowait(message))

    def later(self, act: Callable[[End], None]) -> None:
        loop = asyncio.get_running_loop()
        earliest = self.arrives_s + 1e-6  # timers of one moment come in any order
        self.arrives_s = max(earliest, loop.time() + self.wire.world.delay_s())
        loop.call_at(self.arrives_s, act, self)

    async def receive(self) -> Any:
        message = await self.inbox.get()
        if isinstance(message, PageferryError):
            self.inbox.put_nowait(message)
            raise message
        return message

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            if not self.wire.broken:
                self.wire.broken = True
                self.other.later(lambda to: to.inbox.put_nowait(ConnectionBroken("it was closed")))


class Wire:
    """A connection of one attempt."""

    def __init__(self, world: World, role: str, attempt: int) -> None:
        self.world, self.role, self.attempt = world, role, attempt
        self.broken = False
        self.source, self.dest = End(self), End(self)
        world.wires.append(self)

    def cut(self) -> None:
        """Both ends find it reset, each at its own time; what was on its way is lost."""
        self.broken = True
        for end in (self.source, self.dest):
            end.later(lambda to: to.inbox.put_nowait(ConnectionBroken("it was reset")))


class Destination:
    """What `DestAgent` and `DestSession` are around `Fetching`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.missing = np.ones(PAGES, np.bool_)
        self.protocol = DestProtocol(LIMIT_S)
        self.recovery, self.handover = self.protocol.recovery, self.protocol.handover
        for event in ("setup", "ready", "postcopy_commit", "resumed"):
            self.handover.step(event)
        self.inbox: asyncio.Queue[Any] = asyncio.Queue()
        self.offers: asyncio.Queue[Offered] = asyncio.Queue()
        self.control: End | None = None
        self.urgent: End | None = None
        self.bulk: End | None = None
        self.readers: list[asyncio.Task[None]] = []
        self.failure: PageferryError | None = None
        self.answered = False
        self.error: PageferryError | None = None
        self._answer = asyncio.Event()

    # As `Missing`.

    @property
    def missing_count(self) -> int:
        return int(self.missing.sum())

    def missing_pages(self) -> NDArray[np.bool_]:
        return self.missing.copy()

    # Connections that come in.

    def arrives(self, end: End) -> None:
        """With its hello, whatever has become of it since: that is seen when it is read."""
        wire = end.wire
        if wire.role != "control":
            if not self.recovery.admits(wire.attempt) or getattr(self, wire.role) is not None:
                end.close()
                return
            end.send("welcome")
            setattr(self, wire.role, end)
            self.read(end, self.take_page)
            if self.urgent and self.bulk:
                self.inbox.put_nowait(Stands(wire.attempt))
        elif not self.recovery.is_newer(wire.attempt):
            end.close()
        else:
            end.send("welcome")
            offered = Offered(wire.attempt, end)
            (self.offers if self.handover.finished else self.inbox).put_nowait(offered)

    def read(self, end: End, take: Callable[[Any], None]) -> None:
        """From now on: what comes goes to `take`, but for probes, which are answered."""
        self.readers.append(asyncio.create_task(self._read(end, take)))

    async def _read(self, end: End, take: Callable[[Any], None]) -> None:
        try:
            while True:
                if (message := await end.receive()) == "probe":
                    end.send("answer")
                else:
                    take(message)
        except PageferryError as error:
            self.inbox.put_nowait(Broke(end.wire.attempt, error))

    def take_page(self, message: Any) -> None:
        """A page, or an answer on the urgent connection."""
        if message == "answer":
            self.answered = True
        else:
            self.missing[message] = False
        if message == "answer" or not self.missing.any():
            self.inbox.put_nowait(MissingPagesChanged())

    def _take_control(self, message: Any) -> None:
        if message == "answer":
            self._answer.set()

    # As `DestStream`.

    async def drop(self) -> None:
        for reader in self.readers:
            await quit_task(reader)
        self.readers.clear()
        for end in (self.control, self.urgent, self.bulk):
            if end is not None:
                end.close()
        self.control = self.urgent = self.bulk = None
        self.answered = False

    def adopt(self, connection: End) -> None:
        self.control = connection
        self._answer = asyncio.Event()
        self.read(connection, self._take_control)

    async def resync(self, missing: NDArray[np.bool_]) -> None:
        assert self.control is not None
        self.control.send(missing)
        if self.urgent is not None:
            self.urgent.send("probe")

    async def probe(self) -> None:
        assert self.control is not None
        self.control.send("probe")
        await self._answer.wait()

    async def run(self) -> None:
        """Until the source has heard that nothing is missing, or nobody comes to hear it."""
        fetching = Fetching(
            self,
            self,
            self.protocol,
            Timeline("dest"),
            self.inbox,
            PAGES,
            lambda _line: None,
        )
        try:
            await fetching.run()
        except PageferryError as error:
            self.error = error
            return
        self.handover.step("complete")
        while not self.inbox.empty():
            if isinstance(item := self.inbox.get_nowait(), Offered):
                self.offers.put_nowait(item)
        if self.control is not None and not self.control.closed:
            self.control.send("complete")
        while self.world.last_word_s is None:
            late = asyncio.create_task(await_late_source(self.protocol, self.offers))
            connection = await late
            if connection is None:
                return
            await self.drop()
            self.adopt(connection)
            connection.send(np.zeros(PAGES, np.bool_))
            connection.send("complete")


class Source:
    """What `SourceSession`, `SourceConnections` and `Serving` are around `PostcopyPhase`."""

    def __init__(self, world: World, destination: Destination) -> None:
        self.world, self.destination = world, destination
        self.protocol = SourceProtocol(LIMIT_S)
        self.recovery, self.handover = self.protocol.recovery, self.protocol.handover
        for event in ("start", "ready", "pause", "postcopy_commit_sent", "resumed"):
            self.handover.step(event)
        self.sent = np.zeros(PAGES, np.bool_)
        self.ends: dict[str, End] = {}
        self.error: PageferryError | None = None
        self._answers: dict[str, asyncio.Event] = {}

    def unsent(self) -> int:
        return int((~self.sent).sum())

    async def dial(self, role: str, attempt: int) -> End:
        wire = Wire(self.world, role, attempt)
        wire.dest.later(self.destination.arrives)  # whole connections overtake one another
        try:
            assert await wire.source.receive() == "welcome"
        except BaseException:
            wire.source.close()
            raise
        self.ends[role] = wire.source
        return wire.source

    async def begin(self) -> None:
        """The session's first connections stand when the guest is handed over."""
        for role in ("control", "urgent", "bulk"):
            wire = Wire(self.world, role, 0)
            self.ends[role] = wire.source
            if role == "control":
                self.destination.adopt(wire.dest)
                continue
            setattr(self.destination, role, wire.dest)
            self.destination.read(wire.dest, self.destination.take_page)

    # As `SourceStream`.

    async def rejoin(self, attempt: int) -> NDArray[np.bool_] | messages.CommitOutcome:
        self.world.attempts += 1
        control = await self.dial("control", attempt)
        while not isinstance(missing := await control.receive(), np.ndarray):
            self._control(control, missing)
        self.sent = ~missing
        return missing

    async def open(self) -> None:
        attempt = self.ends["control"].wire.attempt
        await asyncio.gather(self.dial("urgent", attempt), self.dial("bulk", attempt))

    def _control(self, end: End, message: Any) -> None:
        if message == "probe":
            end.send("answer")

    async def prove(self) -> None:
        self._answers = {role: asyncio.Event() for role in ("control", "urgent")}
        for role, answer in self._answers.items():
            self.ends[role].send("probe")
            await answer.wait()

    async def serve(self, *, push: bool) -> messages.Message:
        tasks = [asyncio.create_task(self._listen(role)) for role in self.ends]
        pushing = asyncio.create_task(self._push()) if push and "bulk" in self.ends else None
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            results = [task for task in done if task.exception() is None]
            if not results:
                raise next(iter(done)).exception() or AssertionError
            return messages.Complete(t_ns=0)
        finally:
            for task in (*tasks, pushing):
                await quit_task(task)

    async def _listen(self, role: str) -> None:
        end = self.ends[role]
        while (message := await end.receive()) != "complete":
            if message == "answer" and role in self._answers:
                self._answers[role].set()
            elif message == "probe":
                end.send("answer")

    async def _push(self) -> None:
        for page in np.flatnonzero(~self.sent):
            await asyncio.sleep(PAGE_S)
            if not self.ends["bulk"].closed:
                self.sent[page] = True
                self.ends["bulk"].send(int(page))

    async def hang_up(self) -> None:
        for end in self.ends.values():
            end.close()
        self.ends.clear()

    async def run(self) -> None:
        phase = PostcopyPhase(self, self.protocol, Timeline("source"), lambda _phase: None)
        try:
            await phase.run(push=True)
        except PageferryError as error:
            self.error = error
        else:
            self.world.last_word_s = asyncio.get_running_loop().time()
        await self.hang_up()


@dataclass
class Ended:
    """How both ended, and what it took."""

    source: Source
    dest: Destination
    world: World
    took_s: float


async def play(world: World) -> Ended:
    """Until both have ended, which takes no longer than every outage may."""
    dest = Destination(world)
    source = Source(world, dest)
    await source.begin()
    loop = asyncio.get_running_loop()
    cutting = asyncio.create_task(world.cut())
    most_s = (len(world.cuts) + 3) * (LIMIT_S + PAGES * PAGE_S + 20.0)
    receiving = asyncio.create_task(dest.run())
    async with asyncio.timeout(most_s):
        await source.run()
        took_s = loop.time()
        await receiving
    await quit_task(cutting)
    await dest.drop()
    return Ended(source, dest, world, took_s)


def delays(rng: random.Random, longest_s: float) -> Callable[[], float]:
    """Mostly short, at times long: what is sent later may arrive earlier on another connection."""

    def delay_s() -> float:
        return rng.uniform(0.0, longest_s) if rng.random() < 0.3 else rng.uniform(0.0, 0.02)

    return delay_s
