"""Clean-up is seen through."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from pageferry.common.process.aio import Served, closed_is_reset, run_to_completion


async def test_a_cancelled_caller_waits_for_the_work() -> None:
    begun, may_end, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await may_end.wait()
        done.set()

    caller = asyncio.create_task(run_to_completion(work()))
    await begun.wait()
    for _ in range(3):
        caller.cancel()
        await asyncio.sleep(0)
    assert not caller.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert done.is_set()


async def test_what_the_work_raises_is_raised() -> None:
    async def work() -> None:
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        await run_to_completion(work())


async def _connected(served: Served) -> tuple[asyncio.Server, asyncio.StreamWriter]:
    taken = asyncio.Event()

    def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.take(reader, writer)
        taken.set()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    await taken.wait()
    return server, writer


def _quietly(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it under uvloop; what the loop would print of it is a failure."""
    printed: list[dict[str, Any]] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: printed.append(what))
        await main()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(watched())
        gc.collect()
    assert printed == []


@pytest.mark.parametrize("begun", [False, True])
def test_connections_end_with_their_server_in_silence(begun: bool) -> None:
    """Also one whose task is cancelled before its first step."""

    async def main() -> None:
        ran = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            ran.set()
            await reader.read()

        served = Served(serve)
        server, writer = await _connected(served)
        if begun:
            await ran.wait()
        server.close()
        await served.cancel()
        await asyncio.sleep(0)
        assert served.tasks == set()
        writer.close()

    _quietly(main)


def test_a_transport_that_has_closed_is_a_broken_connection() -> None:
    async def main() -> None:
        async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.abort()
            await asyncio.sleep(0.01)
            for call in (
                lambda: writer.transport.set_write_buffer_limits(high=0),
                writer.write_eof,
                writer.transport.get_write_buffer_size,
            ):
                with contextlib.suppress(ConnectionResetError), closed_is_reset():
                    call()
            done.set()

        done = asyncio.Event()
        served = Served(serve)
        server, writer = await _connected(served)
        await done.wait()
        server.close()
        writer.close()

    _quietly(main)
    with pytest.raises(ConnectionResetError), closed_is_reset():
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>")
