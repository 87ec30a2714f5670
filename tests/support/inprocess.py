"""Both agents in one event loop over real sockets: as real as two processes, and quick."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any

from pageferry.common.config.model import MigrationConfig
from pageferry.common.report.schema import Report
from pageferry.common.timeline import Timeline
from pageferry.common.wire.link_policy import STALL_S
from pageferry.common.wire.tls_credentials import ClientTls
from pageferry.dest_agent.agent import DestAgent
from pageferry.dest_agent.session_table import SessionLimits
from pageferry.source_agent.report.build import make_report
from pageferry.source_agent.session.session import SourceSession


def changed(config: MigrationConfig, options: Mapping[str, Any]) -> MigrationConfig:
    """With these options, read as the command line reads them: `model_copy` takes any value."""
    return MigrationConfig(**(config.model_dump(exclude_unset=True) | dict(options)))


class Said(list[str]):
    """What an agent said to people."""

    def __init__(self) -> None:
        super().__init__()
        self._more = asyncio.Event()

    def __call__(self, line: str) -> None:
        self.append(line)
        self._more.set()

    async def until(self, words: str, timeout_s: float = 30.0) -> None:
        """A line with these words has been said."""
        async with asyncio.timeout(timeout_s):
            while not any(words in line for line in self):
                self._more.clear()
                await self._more.wait()


@contextlib.asynccontextmanager
async def listening(
    limits: SessionLimits | None = None,
    secure: ssl.SSLContext | None = None,
    *,
    stall_s: float = STALL_S,
) -> AsyncIterator[tuple[DestAgent, int, Said]]:
    """A destination agent, its port, and what it says."""
    said = Said()
    agent = DestAgent(said, lambda _session, _event: None, limits, secure, stall_s=stall_s)
    [(_, port)] = agent.listen("127.0.0.1", 0)
    task = asyncio.create_task(agent.serve_forever())
    try:
        yield agent, port, said
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def session_to(
    port: int, config: MigrationConfig, secure: ClientTls | None = None
) -> SourceSession:
    where = ("127.0.0.1", port)
    return SourceSession(config, where, Timeline("source"), lambda _line: None, secure=secure)


async def move(config: MigrationConfig) -> Report:
    """One migration from start to end; raises what it ended with."""
    async with listening() as (_agent, port, _said):
        session = session_to(port, config)
        await session.run()
        return make_report(session.record)
