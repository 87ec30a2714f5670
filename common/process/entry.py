"""The first moments of a command, before there is anything to import but this, and its last."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def start(main: Callable[[], int]) -> int:
    """Run `main`, which does its own imports: a signal meanwhile is one line and its exit code.

    So is whatever runs out. On a system that is not Linux nothing of it would work: libraries and
    system calls are missing.
    """
    if sys.platform != "linux":
        print(
            "pageferry: needs Linux (userfaultfd, eventfd, TCP_INFO), also inside a container or a"
            f" virtual machine: this is {sys.platform}",
            file=sys.stderr,
        )
        return 2  # common.errors.EXIT_USAGE
    from pageferry.common.process import signals  # which has signals that other systems lack

    # numpy's algebra, of which nothing is used here, would start a thread for each processor of the
    # machine, with a buffer, whatever this process is allowed.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    signals.begin()
    try:
        return main()
    except (ImportError, MemoryError, OSError, RuntimeError) as error:
        words = _ran_out(error)
        if words is None:
            raise
        print(f"pageferry: {words}", file=sys.stderr)
        return 2  # common.errors.EXIT_USAGE
    finally:
        signals.finish()


def _ran_out(error: Exception) -> str | None:
    """Where a limit of this process or host is too low for what was asked."""
    try:
        from pageferry.common.capacity.exhausted import ran_out

        return ran_out(error)
    except (ImportError, MemoryError, OSError):  # not even that can be imported
        return f"out of memory or of file descriptors (ulimit -a): {error or type(error).__name__}"
