"""A log of what strangers do, in few lines: a flood of them must not become a flood of log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

MOST_LINES: Final = 20  # within one window
WINDOW_S: Final = 5.0


class RateLimitedLog:
    """A log that prints the first lines of each window, then the number of others and the last.

    For one event loop. The window begins with its first line.

    Args:
        say: Prints a line.

    Attributes:
        count: Of all lines, printed or not.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._lines = 0
        self._more = 0
        self._last = ""
        self._timer: asyncio.TimerHandle | None = None
        self.count = 0  # of all lines, printed or not

    def __call__(self, line: str) -> None:
        """Print the line now, or count it."""
        self.count += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WINDOW_S, self.flush)
        self._lines += 1
        if self._lines <= MOST_LINES:
            self._say(line)
        else:
            self._more += 1
            self._last = line

    def flush(self) -> None:
        """End the window: report the lines that were not printed. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._lines = 0
        more, self._more = self._more, 0
        if more:
            self._say(f"and {more:,} more like it, the last of them: {self._last}")
