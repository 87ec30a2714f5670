"""The first moments of a command, before there is anything to import but this."""

from __future__ import annotations

import sys
from collections.abc import Callable


def start(main: Callable[[], int]) -> int:
    """Run `main`, which does its own imports: Ctrl-C meanwhile is one line and its exit code."""
    try:
        return main()
    except KeyboardInterrupt:
        if sys.stderr is not None:
            print("pageferry: cancelled before anything was started", file=sys.stderr)
        return 130  # common.errors.EXIT_CANCELLED
