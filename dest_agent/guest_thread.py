"""A session's one thread for whatever blocks on its guest."""

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
        """Call `function` there; return what it returns, raise what it raises."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, function, *args)

    def close(self) -> None:
        """Wait for what is under way, and end the thread."""
        self._threads.shutdown(wait=True)
