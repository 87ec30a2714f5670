"""Both agents in one event loop over real sockets: as real as two processes, and quick."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from common.config import MigrationConfig
from common.report import Report
from common.timeline import Timeline
from common.wire.channel import STALL_S
from dest_agent.agent import DestAgent
from source_agent.reporting import make_report
from source_agent.session import SourceSession


class Said(list[str]):
    """What an agent said to people."""

    def __call__(self, line: str) -> None:
        self.append(line)


@contextlib.asynccontextmanager
async def listening(
    *, expected_memory: int | None = None, stall_s: float = STALL_S
) -> AsyncIterator[tuple[DestAgent, int, Said]]:
    """A destination agent, its port, and what it says."""
    said = Said()
    agent = DestAgent(
        said, lambda _session, _event: None, expected_memory=expected_memory, stall_s=stall_s
    )
    _, port = agent.listen("127.0.0.1", 0)
    task = asyncio.create_task(agent.serve_forever())
    try:
        yield agent, port, said
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def session_to(port: int, config: MigrationConfig) -> SourceSession:
    return SourceSession(config, ("127.0.0.1", port), Timeline("source"), lambda _line: None)


async def move(config: MigrationConfig) -> Report:
    """One migration from start to end; raises what it ended with."""
    async with listening() as (_agent, port, _said):
        session = session_to(port, config)
        await session.run()
        return make_report(session.record)
