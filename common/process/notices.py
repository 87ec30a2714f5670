"""Lines that a person should see, from parts that do not know who looks: each once a process.

They go to standard error until somebody with a better way to the user takes them (`redirect`): a
supervised agent, whose standard error nobody sees.
"""

from __future__ import annotations

import sys
from collections.abc import Callable


def _print(line: str) -> None:
    """Print a notice on standard error, if there is one."""
    if sys.stderr is not None:
        print(f"pageferry: {line}", file=sys.stderr, flush=True)


def print_error(message: str) -> None:
    """Print the one line that says what went wrong.

    Args:
        message: Its line breaks become spaces; `pageferry: ` is put in front.
    """
    print(f"pageferry: {' '.join(message.split())}", file=sys.stderr, flush=True)


_said: set[str] = set()
_tell: Callable[[str], None] = _print


def notify_once(line: str) -> None:
    """Tell a person something, unless this process has said the same before.

    Args:
        line: One line without `pageferry: `.
    """
    if line not in _said:
        _said.add(line)
        _tell(line)


def redirect(tell: Callable[[str], None]) -> None:
    """Have all further notices handed to a function instead of printed.

    Args:
        tell: Called with each line, on the thread where it comes up.
    """
    global _tell  # noqa: PLW0603 - a process has one user
    _tell = tell
