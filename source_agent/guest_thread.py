"""The session's one thread for everything that blocks on the guest or on a round."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from pageferry.common.process.aio import consume_exception

_T = TypeVar("_T")


class Worker:
    """One thread, so that jobs run one after another, in order."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="session")
        self._job: asyncio.Future[Any] | None = None

    async def run(self, function: Callable[..., _T], *args: Any) -> _T:
        """Run a function on the thread, and wait for it.

        A cancelled caller leaves the job running: see `idle`.

        Args:
            function: May block; what it raises is raised here.
            *args: Its positional arguments.

        Returns:
            What the function returns.
        """
        job = asyncio.get_running_loop().run_in_executor(self._threads, function, *args)
        job.add_done_callback(consume_exception)
        self._job = job
        return await asyncio.shield(job)

    async def idle(self) -> None:
        """Wait until the last job has ended, and ignore what it raised."""
        if self._job is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait({self._job})  # what it raised was reported, or was our own abort

    def close(self) -> None:
        """Wait for the job that is under way, and end the thread."""
        self._threads.shutdown(wait=True)
