"""The end of an outage lifts its limit, and comes at no wrong moment."""

from __future__ import annotations

import asyncio
from typing import Any

from pageferry.common.errors import ConnectionBroken
from pageferry.common.timeline import Timeline
from pageferry.common.wire import messages
from pageferry.source_agent.postcopy.phase import PostcopyPhase
from pageferry.source_agent.protocol import SourceProtocol


class _Stream:
    """Its probe is answered in the moment in which the destination says that it has everything."""

    def __init__(self) -> None:
        self._both = asyncio.Event()

    async def prove(self) -> None:
        await self._both.wait()

    async def serve(self, *, push: bool) -> messages.Message:
        assert push
        await asyncio.sleep(0)  # the probe is waited for
        asyncio.get_running_loop().call_soon(self._both.set)
        await self._both.wait()
        return messages.Complete(t_ns=1)

    def unsent(self) -> int:
        return 1


def test_a_probe_that_is_answered_at_the_very_end_is_no_error() -> None:
    said: list[Any] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: said.append(context))
        protocol = SourceProtocol(10.0)
        for event in ("start", "ready", "pause", "postcopy_commit_sent", "resumed"):
            protocol.handover.step(event)
        protocol.lost(ConnectionBroken("it was reset"), loop.time())
        attempt = protocol.dial()
        protocol.joined(attempt)
        protocol.stands(attempt)
        stream: Any = _Stream()
        phase = PostcopyPhase(stream, protocol, Timeline("source"), lambda _line: None)
        assert await phase._serve_missing(True) is None
        assert not protocol.recovery.out
        assert protocol.handover.finished
        for _ in range(3):
            await asyncio.sleep(0)

    asyncio.run(scenario())
    assert said == []
