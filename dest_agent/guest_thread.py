"""A session's one thread for everything that blocks on its guest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

_T = TypeVar("_T")


class GuestThread:
    """Runs one job after another, in order."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="session")

    async def run(self, function: Callable[..., _T], *args: Any) -> _T:
        """Call a function on the thread and wait for it.

        Args:
            function: May block; whatever it raises is raised here.
            args: Its arguments.

        Returns:
            What the function returned.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, function, *args)

    def close(self) -> None:
        """Wait for the job under way, and end the thread."""
        self._threads.shutdown(wait=True)
