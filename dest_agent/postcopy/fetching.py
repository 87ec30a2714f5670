"""Post-copy at the destination: the guest runs here until no page is missing, or it is given up.

Everything that can happen comes through one queue, in one order, and each item says which attempt
it belongs to; `common.recovery` decides what counts. The stream may break and be joined again any
number of times, by a source that comes back; an outage lasts `--recover-timeout` at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from pageferry.common.errors import (
    ConnectionBroken,
    GuestLostError,
    InternalError,
    PageferryError,
    RemoteProtocolError,
)
from pageferry.common.process.aio import quit_task, run_to_completion
from pageferry.common.process.threads import failure_of
from pageferry.common.recovery import Proof, RecoveryPhase
from pageferry.common.timeline import Timeline
from pageferry.dest_agent.protocol import DestProtocol

LOOK_S: Final = 0.1  # how often to look whether a page has come, while that would be a proof


@dataclass(frozen=True, slots=True)
class Broke:
    """A connection has ended, or carried something illegal.

    Attributes:
        attempt: The connection's.
        error: What happened.
    """

    attempt: int
    error: PageferryError


@dataclass(frozen=True, slots=True)
class Offered:
    """A source is back on a new control connection, which has been welcomed.

    Attributes:
        attempt: The connection's.
        connection: A `Connection`; closed by whoever takes the item and does not use it.
    """

    attempt: int
    connection: Any


@dataclass(frozen=True, slots=True)
class Stands:
    """All connections of an attempt have come.

    Attributes:
        attempt: Theirs.
    """

    attempt: int


@dataclass(frozen=True, slots=True)
class Shown:
    """Something of an attempt has been seen to work.

    Attributes:
        attempt: Which one.
        proof: What was seen.
    """

    attempt: int
    proof: Proof


@dataclass(frozen=True, slots=True)
class MissingPagesChanged:
    """The fault handler has something to say: nothing is missing any more, or it failed."""


class Missing(Protocol):
    """The missing pages and their handler: see `fault_handler.FaultHandler`."""

    @property
    def missing_count(self) -> int:
        """Pages that are still missing."""
        ...

    @property
    def failure(self) -> PageferryError | None:
        """Why the handler dropped its connection; None if it did not."""
        ...

    @property
    def answered(self) -> bool:
        """Whether the source has answered a probe on the urgent connection."""
        ...

    def missing_pages(self) -> NDArray[np.bool_]:
        """Copy which pages are missing at this moment.

        Returns:
            bool[n_pages].
        """
        ...


class DestStream(Protocol):
    """This end's connections, of one attempt after another."""

    async def drop(self) -> None:
        """Close all connections of the present attempt and end their threads; bounded."""
        ...

    def adopt(self, connection: Any) -> None:
        """Begin an attempt: its control connection, and others that come for it, count from now on.

        Args:
            connection: A welcomed `Connection`, which the stream owns from now on.
        """
        ...

    async def resync(self, missing: NDArray[np.bool_]) -> None:
        """Tell the source what is missing.

        Args:
            missing: bool[n_pages].

        Raises:
            ConnectionBroken: The control connection is broken.
        """
        ...

    async def probe(self) -> None:
        """Wait until the source has answered a probe on the control connection.

        Raises:
            ConnectionBroken: The control connection is broken.
        """
        ...


@dataclass(slots=True)
class Fetching:
    """Fetches until nothing is missing, or `over` says that enough has come: see `run`.

    Attributes:
        stream: The connections.
        faults: The missing pages; armed.
        protocol: Stepped with everything that happens.
        timeline: Gets `postcopy-paused` and `postcopy-recovered`.
        inbox: Everything that happens; nobody else reads it meanwhile.
        n_pages: Of the guest, for people.
        say: Takes one line for people.
        over: Returns whether a lazy copy's guest has ended.
    """

    stream: DestStream
    faults: Missing
    protocol: DestProtocol
    timeline: Timeline
    inbox: asyncio.Queue[Any]
    n_pages: int
    say: Callable[[str], None]
    over: Callable[[], bool] = lambda: False
    _joining: asyncio.Task[None] | None = None
    _at_resync: int = field(default=0)  # pages that were missing when the present attempt began

    async def run(self) -> None:
        """Fetch, over however many attempts it takes.

        Raises:
            GuestLostError: An outage has lasted too long.
            PageferryError: Something that no further attempt would mend.
        """
        try:
            while self.faults.missing_count and not self.over():
                try:
                    async with asyncio.timeout_at(self._look_at()):
                        item = await self.inbox.get()
                except TimeoutError:
                    await self._look()
                else:
                    await self.take(item)
        finally:
            await quit_task(self._joining)
        self.protocol.recovery.settled()

    async def take(self, item: Any) -> None:
        """Handle one thing that has happened.

        Args:
            item: One of the classes above, a message, or a barrier, which means nothing here.

        Raises:
            PageferryError: Something that no further attempt would mend.
        """
        match item:
            case Broke(_, InternalError() as error):  # coming back would not mend it
                raise error
            case Broke(attempt, error):
                await self._broke(attempt, error)
            case Offered(attempt, connection):
                await self._offered(attempt, connection)
            case Stands(attempt):
                self._weigh(self.protocol.stands(attempt))
            case Shown(attempt, proof):
                self._weigh(self.protocol.proved(attempt, proof))
            case MissingPagesChanged():
                await self._missing_pages_changed()
            case _ if hasattr(item, "kind"):  # a message
                try:
                    self.protocol.receive(item)
                except RemoteProtocolError as error:
                    await self._broke(self.protocol.attempt, error)
            case _:  # a barrier, which means nothing here
                pass

    # -- time -----------------------------------------------------------------------------------

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _look_at(self) -> float | None:
        """Return when to look at what nobody reports, by the loop's clock; None for never."""
        deadline_s = self.protocol.recovery.deadline_s
        if deadline_s is None:
            return None
        proving = self.protocol.recovery.phase in (RecoveryPhase.JOINING, RecoveryPhase.PROVING)
        return min(deadline_s, self._now() + LOOK_S) if proving else deadline_s

    async def _look(self) -> None:
        if self.faults.missing_count < self._at_resync:
            self._weigh(self.protocol.proved(self.protocol.attempt, Proof.PAGE))
        if self.protocol.recovery.out and not self.protocol.recovery.left_s(self._now()):
            await self._give_up()

    async def _give_up(self) -> None:
        self.protocol.gave_up()
        await run_to_completion(self.stream.drop())
        raise GuestLostError(
            f"the source did not come back: the guest is lost in part,"
            f" {self.faults.missing_count:,} of {self.n_pages:,} pages are missing"
        )

    # -- what happens -----------------------------------------------------------------------------

    async def _missing_pages_changed(self) -> None:
        failure = self.faults.failure
        if isinstance(failure, ConnectionBroken | RemoteProtocolError):
            await self._broke(self.protocol.attempt, failure)
        elif failure is not None:
            raise failure
        elif self.faults.answered:
            self._weigh(self.protocol.proved(self.protocol.attempt, Proof.URGENT))

    def _weigh(self, over: bool) -> None:
        """Say so if an outage is over."""
        if not over:
            return
        self.timeline.log("postcopy-recovered", missing=self.faults.missing_count)
        self.say("the source is back")

    async def _broke(self, attempt: int, error: PageferryError) -> None:
        if not self.protocol.broke(attempt, self._now()):
            return
        self.timeline.log("postcopy-paused", reason=str(error))
        self.say(f"{error}: the guest waits, {self.faults.missing_count:,} pages are missing")
        await quit_task(self._joining)
        await run_to_completion(self.stream.drop())

    async def _offered(self, attempt: int, connection: Any) -> None:
        if not self.protocol.recovery.is_newer(attempt):
            connection.close()
            return
        # The source has seen the break first.
        if self.protocol.recovery.phase is not RecoveryPhase.BROKEN:
            lost = ConnectionBroken("the source lost the connection")
            await self._broke(self.protocol.attempt, lost)
        self.protocol.joined(attempt)
        self.stream.adopt(connection)
        self._at_resync = self.faults.missing_count
        self._joining = asyncio.create_task(self._join(attempt), name="joining")

    async def _join(self, attempt: int) -> None:
        """Tell the source what is missing and see that the control connection works.

        This is a task of its own: a newer attempt, or the end of the outage, must not wait for it.
        """
        try:
            await self.stream.resync(self.faults.missing_pages())
            await self.stream.probe()
        except Exception as error:  # noqa: BLE001 - whoever waits for it must hear of it
            self.inbox.put_nowait(Broke(attempt, failure_of(error)))
        else:
            self.inbox.put_nowait(Shown(attempt, Proof.CONTROL))


async def await_late_source(protocol: DestProtocol, offers: asyncio.Queue[Offered]) -> Any | None:
    """Wait for a source that missed that nothing is missing any more, and is back to hear it.

    Args:
        protocol: Takes the source back.
        offers: Sources that are back; the connections of older attempts are closed.

    Returns:
        Its control connection, a `Connection`; None if none has come for as long as an outage may
        last.
    """
    try:
        async with asyncio.timeout(protocol.recovery.limit_s):
            offered = await offers.get()
            while not protocol.recovery.is_newer(offered.attempt):
                offered.connection.close()
                offered = await offers.get()
    except TimeoutError:
        return None
    protocol.came_late(offered.attempt)
    return offered.connection
