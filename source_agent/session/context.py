"""What every phase of one session uses, and what each of them hands to the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from pageferry.common.config.model import MigrationConfig
from pageferry.common.guest.machine import Guest
from pageferry.common.process.aio import quit_task
from pageferry.common.timeline import Timeline
from pageferry.common.wire.injector import Injector
from pageferry.common.wire.messages import Message
from pageferry.source_agent.connection.connections import SourceConnections
from pageferry.source_agent.connection.control import ANSWER_S
from pageferry.source_agent.guest_thread import Worker
from pageferry.source_agent.measurements import Measurements
from pageferry.source_agent.postcopy.supply import PageSupply
from pageferry.source_agent.precopy.rounds import Rounds
from pageferry.source_agent.protocol import SourceProtocol
from pageferry.source_agent.resident_guest import Resident

SAMPLE_S: Final = 0.1

_M = TypeVar("_M", bound=Message)


@dataclass(frozen=True, slots=True)
class SourceContext:
    """What is there for as long as the session.

    Attributes:
        config: Every option of the migration.
        protocol: The source's end of the session.
        connections: Its connections.
        worker: The one thread that blocks on the guest.
        exits: What is closed with the session, once its connections are.
        timeline: Gets the session's events.
        record: Gets what is measured.
        notify: Is told the name of each phase that begins, for people; from the event loop, or from
            the worker while the guest is booted.
        injector: Carries injected faults out; None: there are none.
        resident: The guest that ran here before; None: one is booted, and ends with the session.
        witness: File in which the guest's heartbeats are kept, for tests; None: no file.
    """

    config: MigrationConfig
    protocol: SourceProtocol
    connections: SourceConnections
    worker: Worker
    exits: AsyncExitStack
    timeline: Timeline
    record: Measurements
    notify: Callable[[str], None]
    injector: Injector | None
    resident: Resident | None
    witness: Path | None

    def reached(self, point: str) -> None:
        """Tell injected faults that a point has been reached.

        Args:
            point: Its name, as in `common.inject.POINTS`, with numbers for N.
        """
        if self.injector is not None:
            self.injector.reached(point)

    async def hear(self, kind: type[_M], *, timeout_s: float = ANSWER_S) -> _M:
        """Wait for the destination's next message, which must be of this kind.

        Args:
            kind: Class of the message.
            timeout_s: How many seconds it may take.

        Returns:
            The message, which `protocol` has taken.

        Raises:
            PeerSilent: Nothing came in that time.
            RemoteProtocolError: Something else came, or it has no place here.
            PageferryError: Whatever has ended the connection.
        """
        message = await self.connections.control.expect(kind, timeout_s=timeout_s)
        self.protocol.receive(message)
        return message


class Sampler:
    """Notes a guest's progress over time, until it stops.

    Args:
        record: Gets the samples.
    """

    def __init__(self, record: Measurements) -> None:
        self._record = record
        self._task: asyncio.Task[None] | None = None

    def start(self, guest: Guest) -> None:
        """Begin to sample every `SAMPLE_S`; on the event loop.

        Args:
            guest: Has to live until `stop`.
        """
        self._task = asyncio.create_task(self._run(guest), name="sampler")

    async def _run(self, guest: Guest) -> None:
        while True:
            self._record.guest.source_samples.append(guest.progress())
            await asyncio.sleep(SAMPLE_S)

    async def stop(self) -> None:
        """End sampling; idempotent."""
        await quit_task(self._task)
        self._task = None


@dataclass(frozen=True, slots=True)
class ReadyToSend:
    """The destination is ready, all connections stand, and pages may be sent.

    Attributes:
        guest: The guest to move.
        rounds: Sends its pages while it runs.
        supply: What post-copy would send from; None where no strategy may switch.
        sampler: Samples the guest's progress, from the warm-up on.
        rtt_s: Round trip of the control connection, before anything else went over it.
    """

    guest: Guest
    rounds: Rounds
    supply: PageSupply | None
    sampler: Sampler
    rtt_s: float
