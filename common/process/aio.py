"""asyncio, where its own parts leave something open."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from pageferry.common.errors import PageferryError

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


async def see_through(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` to its end although we are cancelled meanwhile; the cancellation is raised then.

    For clean-up that must not stay half done. The work has to bound its own time.
    """
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError


async def quit_task(task: asyncio.Task[Any] | None) -> None:
    """Cancel a task that only observes, and wait for its end; what it raised concerns nobody."""
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def take_notice(future: asyncio.Future[Any]) -> None:
    """For `add_done_callback`: what it raises is no news to asyncio's log.

    For futures that somebody may stop waiting for, as when he is cancelled: who waits is told.
    """
    if not future.cancelled():
        future.exception()


def to_loop(tell: Callable[[PageferryError], None]) -> Callable[[PageferryError], None]:
    """`tell` on the running loop, from any thread; nothing where the loop has ended by then."""
    loop = asyncio.get_running_loop()

    def hand(failure: PageferryError) -> None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(tell, failure)

    return hand


@contextlib.contextmanager
def closed_is_reset() -> Iterator[None]:
    """Inside, what uvloop says of a transport that has closed is a broken connection.

    It raises a `RuntimeError`, also of one that does not say of itself that it is closing: whoever
    writes can't know before. Only calls of a transport belong in here.
    """
    try:
        yield
    except RuntimeError as error:
        raise ConnectionResetError("the connection has closed") from error


class Served:
    """The tasks of connections that a server has taken, ended with it.

    `asyncio.start_server` makes a task of a coroutine function itself, and prints a traceback of
    one that is cancelled, which is how we end them. `take` is a plain function, so it makes none.
    """

    def __init__(
        self,
        serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]],
    ) -> None:
        self._serve = serve
        self.tasks: set[asyncio.Task[None]] = set()

    def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """For `asyncio.start_server`; the connection is closed when it has been served."""
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self.tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self.tasks.discard(task)
            writer.transport.abort()

        task.add_done_callback(ended)

    async def cancel(self) -> None:
        """Whatever has not ended; its connections are closed when this returns."""
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
