"""Lines that a person should see, from parts that do not know who looks: each once a process.

They go to standard error, until somebody who has a better way to the user takes them (`take`): a
supervised agent, whose standard error nobody sees.
"""

from __future__ import annotations

import sys
from collections.abc import Callable


def _print(line: str) -> None:
    if sys.stderr is not None:
        print(f"pageferry: {line}", file=sys.stderr, flush=True)


def complain(message: str) -> None:
    """The one line that says what went wrong."""
    print(f"pageferry: {' '.join(message.split())}", file=sys.stderr, flush=True)


_said: set[str] = set()
_tell: Callable[[str], None] = _print


def notice(line: str) -> None:
    """Say it, unless this process has said the same before."""
    if line not in _said:
        _said.add(line)
        _tell(line)


def take(tell: Callable[[str], None]) -> None:
    """From now on `tell` is given them."""
    global _tell  # noqa: PLW0603 - a process has one user
    _tell = tell
