"""Additions to asyncio, where its own parts leave something open."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from pageferry.common.errors import PageferryError

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


async def run_to_completion(work: Coroutine[Any, Any, None]) -> None:
    """Run work to its end although we are cancelled meanwhile; raise the cancellation afterwards.

    For clean-up that must not stay half done.

    Args:
        work: It has to bound its own time. What it raises comes through.

    Raises:
        asyncio.CancelledError: We were cancelled while the work ran.
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
    """Cancel a task that only observes, and wait for its end; what it raised concerns nobody.

    Args:
        task: None: there is nothing to cancel.
    """
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def consume_exception(future: asyncio.Future[Any]) -> None:
    """Keep asyncio from logging what a future raises; for `add_done_callback`.

    For futures that a waiter may abandon, as when it is cancelled; who does wait is told.

    Args:
        future: It is done.
    """
    if not future.cancelled():
        future.exception()


def to_loop(tell: Callable[[PageferryError], None]) -> Callable[[PageferryError], None]:
    """Make a function that any thread may call to have `tell` called on the running loop.

    Args:
        tell: Called on the loop with the failure.

    Returns:
        It does nothing once the loop has ended.
    """
    loop = asyncio.get_running_loop()

    def hand(failure: PageferryError) -> None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(tell, failure)

    return hand


@contextlib.contextmanager
def closed_is_reset() -> Iterator[None]:
    """Turn what uvloop says of a closed transport into a broken connection.

    It raises a `RuntimeError`, also of a transport that does not say of itself that it is closing:
    whoever writes can't know before. Enclose only calls of a transport.

    Yields:
        Nothing.

    Raises:
        ConnectionResetError: A `RuntimeError` was raised inside.
    """
    try:
        yield
    except RuntimeError as error:
        raise ConnectionResetError("the connection has closed") from error


class Served:
    """The tasks of connections that a server has accepted, ended with it.

    `asyncio.start_server` makes a task of a coroutine function itself, and prints a traceback when
    one is cancelled, which is how we end them. `take` is a plain function, so it makes none.

    Args:
        serve: Serves one connection until it ends; the connection is closed afterwards.

    Attributes:
        tasks: Of the connections that are being served.
    """

    def __init__(
        self,
        serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]],
    ) -> None:
        self._serve = serve
        self.tasks: set[asyncio.Task[None]] = set()

    def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection in a task; for `asyncio.start_server`.

        Args:
            reader: Of the connection.
            writer: Its transport is aborted when the connection has been served.
        """
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self.tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self.tasks.discard(task)
            writer.transport.abort()

        task.add_done_callback(ended)

    async def cancel(self) -> None:
        """Cancel all tasks and wait for them; their connections are closed when this returns."""
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
