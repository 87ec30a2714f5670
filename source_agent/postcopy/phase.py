"""Post-copy after the switch: the guest runs there, and pages are missing.

The stream may break and be joined again any number of times. An outage may last `--recover-timeout`
at most, counted from its beginning, whatever happens during it (`common.recovery`). Only a
destination that says that it no longer has the guest ends it earlier.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from pageferry.common.errors import (
    ConnectionBroken,
    PageferryError,
    PeerRefused,
    PeerUnreachable,
    RemoteProtocolError,
)
from pageferry.common.guest_location import When, Who, location_error
from pageferry.common.process.aio import quit_task, run_to_completion
from pageferry.common.recovery import Proof
from pageferry.common.timeline import Timeline
from pageferry.common.wire import messages
from pageferry.common.wire.injector import Injector
from pageferry.source_agent.protocol import SourceProtocol

SHARE_S: Final = 0.002  # how often injected faults look at what post-copy has sent


class SourceStream(Protocol):
    """The connections of one attempt after another, and what goes over them: see `Serving`."""

    def unsent(self) -> int:
        """Count the pages that have been neither pushed nor pulled.

        Returns:
            How many there are.
        """
        ...

    async def rejoin(self, attempt: int) -> NDArray[np.bool_] | messages.CommitOutcome:
        """Open a new control connection.

        Args:
            attempt: Number of the attempt.

        Returns:
            bool[n_pages], what is missing there; or what became of the guest.
        """
        ...

    async def open(self) -> None:
        """Open the attempt's other connections."""
        ...

    async def prove(self) -> None:
        """Wait until the control connection and the urgent one have been shown to work."""
        ...

    async def serve(self, *, push: bool) -> messages.Message:
        """Serve until the destination says something.

        Args:
            push: Whether to send pages that nobody has asked for.

        Returns:
            What the destination said.
        """
        ...

    async def hang_up(self) -> None:
        """Close everything of the attempt."""
        ...


@dataclass(slots=True)
class PostcopyPhase:
    """Serves and pushes until the destination has all it needs.

    Attributes:
        stream: The connections.
        protocol: The source's end of the session, stepped from here.
        timeline: Is told when an outage begins and ends.
        notify: Is told the phase, for people.
    """

    stream: SourceStream
    protocol: SourceProtocol
    timeline: Timeline
    notify: Callable[[str], None]

    async def run(
        self, *, push: bool, broken: PageferryError | None = None
    ) -> messages.Finished | None:
        """Serve and push until nothing is missing, or (lazy copy) the guest has ended.

        Args:
            push: Whether to send pages that nobody has asked for.
            broken: Why the stream is broken from the start, as `protocol` knows; None: it is whole.

        Returns:
            The guest's result where it has ended already; None: it is still to come.

        Raises:
            GuestLostError: The outage lasted too long, or the destination has the guest no more.
            InDoubtError: The outage lasted too long, and all pages had been sent.
            PeerRefused: The destination has all of the guest, and its result cannot be had.
        """
        if broken is not None:
            await self._reconnect(broken)
        else:
            self.notify("the guest runs there, its memory follows" if push else "lazy copy")
        while True:
            try:
                return await self._serve_missing(push)
            except (ConnectionBroken, PeerRefused, RemoteProtocolError) as error:
                self._broke(error)
                await self._reconnect(error)

    async def watch_share(self, injector: Injector, total: int) -> None:
        """Tell injected faults when a share of the missing pages has been sent.

        Args:
            injector: Knows the shares; this returns when none of them is left.
            total: How many pages were missing at the beginning.
        """
        while True:
            if not injector.reached_share(1 - self.stream.unsent() / max(total, 1)):
                return
            await asyncio.sleep(SHARE_S)

    def _broke(self, error: PageferryError) -> None:
        """Note that the present attempt's connections are of no use any more."""
        self.protocol.lost(error, asyncio.get_running_loop().time())

    async def _serve_missing(self, push: bool) -> messages.Finished | None:
        """Serve until the destination says that it has all it needs."""
        proving: asyncio.Task[None] | None = None
        recovery = self.protocol.recovery
        try:
            async with asyncio.timeout_at(recovery.deadline_s) as limit:
                if recovery.out:
                    proving = asyncio.create_task(self._prove(limit))
                message = await self.stream.serve(push=push)
        except TimeoutError:
            self._give_up(PeerUnreachable("its connections stand, and nothing comes through"))
        finally:
            await quit_task(proving)
        message = self.protocol.receive(message)
        return message if isinstance(message, messages.Finished) else None

    async def _prove(self, limit: asyncio.Timeout) -> None:
        """Prove the connections, and end the outage: serving may now take as long as it takes."""
        attempt = self.protocol.attempt
        await self.stream.prove()
        self._weigh(self.protocol.proved(attempt, Proof.CONTROL))
        self._weigh(self.protocol.proved(attempt, Proof.URGENT))
        if not self.protocol.recovery.out and not limit.expired():
            limit.reschedule(None)

    def _weigh(self, over: bool) -> None:
        """Log it where an outage is over."""
        if over:
            self.timeline.log("postcopy-recovered", missing=self.stream.unsent())

    async def _reconnect(self, error: PageferryError) -> None:
        """Come back, and restore the connections. Raises what `run` does."""
        self.timeline.log("postcopy-paused", reason=str(error))
        self.notify("the connection broke: reconnecting")
        try:
            async with asyncio.timeout_at(self.protocol.recovery.deadline_s):
                while True:
                    await run_to_completion(self.stream.hang_up())
                    await asyncio.sleep(self.protocol.recovery.pause_s())
                    try:
                        return await self._rejoin()
                    except PeerRefused:
                        raise
                    except PageferryError as failure:
                        error = failure
                    self._broke(error)
        except TimeoutError:
            self._give_up(error)
        except PeerRefused as refusal:
            if self.protocol.handover.finished:
                raise
            self.protocol.gave_up()
            raise location_error(str(refusal), Who.DEST, When.PARTLY) from None

    async def _rejoin(self) -> None:
        attempt = self.protocol.dial()
        missing = await self.stream.rejoin(attempt)
        self.protocol.joined(attempt)
        if isinstance(missing, messages.CommitOutcome):
            self.protocol.ended_there(missing)
        if missing.any():
            await self.stream.open()
        self._weigh(self.protocol.stands(attempt))
        if not missing.any():  # it only has to say once more that it has all of them
            self._weigh(self.protocol.proved(attempt, Proof.NOTHING))

    def _give_up(self, error: PageferryError) -> NoReturn:
        self.protocol.gave_up()
        when = When.PARTLY if self.stream.unsent() else When.SENT
        what = f"the destination could not be reached again ({error})"
        raise location_error(what, Who.DEST, when) from None
