"""asyncio, where its own parts leave something open."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from common.errors import PageferryError


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
