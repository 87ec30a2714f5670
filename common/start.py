"""The first moments of a command, before there is anything to import but this, and its last."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def start(main: Callable[[], int]) -> int:
    """Run `main`, which does its own imports: a signal meanwhile is one line and its exit code.

    On a system that is not Linux nothing of it would work: libraries and system calls are missing.
    """
    if sys.platform != "linux":
        print(
            "pageferry: needs Linux (userfaultfd, eventfd, TCP_INFO), also inside a container or a"
            f" virtual machine: this is {sys.platform}",
            file=sys.stderr,
        )
        return 2  # common.errors.EXIT_USAGE
    from common import signals  # which has signals that other systems lack

    signals.begin()
    try:
        return main()
    finally:
        signals.finish()
