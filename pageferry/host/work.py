"""The tasks and threads of a host itself, which outlive whoever asked for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from pageferry.common.errors import PageferryError
from pageferry.common.process.aio import consume_exception

_THREADS: Final = 4

_PATIENCE_S: Final = 2.0  # of a person who has pressed Ctrl-C and sees nothing

_T = TypeVar("_T")


class Work:
    """What is under way at a host. Made on the running loop, whose default threads it replaces.

    Attributes:
        stopping: Whether nothing new is begun: the host has been told to stop.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._pool = _full_pool(_THREADS)
        asyncio.get_running_loop().set_default_executor(self._pool)
        self.stopping = False

    def must_go_on(self) -> None:
        """Refuse to begin something while the host is being stopped.

        Raises:
            PageferryError: It is.
        """
        if self.stopping:
            raise PageferryError("this host is being stopped")

    async def blocking(self, function: Callable[..., _T], *args: Any) -> _T:
        """Call what blocks on a guest, in a thread.

        Args:
            function: Called with `args`; what it raises is raised here.
            args: Its arguments.

        Returns:
            What it returned.
        """
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args)

    def own(self, work: Any) -> asyncio.Task[Any]:
        """Make a task that goes on even if whoever asked for it goes away.

        Args:
            work: A coroutine.

        Returns:
            The task; `asyncio.shield` it where it is awaited.
        """
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(consume_exception)
        task.add_done_callback(self._tasks.discard)
        return task

    async def finish(self, say: Callable[[str], None]) -> None:
        """Wait until nothing is under way any more.

        Args:
            say: Takes a line for people, every two seconds.
        """
        while self._tasks:
            _, left = await asyncio.wait(self._tasks, timeout=_PATIENCE_S)
            if left:
                say(
                    f"waiting for {len(left)} thing(s) under way, kernels to be compiled among them"
                    " perhaps; Ctrl-C again ends it within seconds"
                )

    def close(self) -> None:
        """End the threads, which must have nothing to do."""
        self._pool.shutdown(wait=True)


def _full_pool(threads: int) -> ThreadPoolExecutor:
    """Make a pool with all its threads at once: more threads than at the start then mean a leak."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="host")
    barrier = threading.Barrier(threads)
    for _ in range(threads):
        pool.submit(barrier.wait)
    return pool
