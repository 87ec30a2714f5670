"""The first moments of a command, before there is anything to import but this, and its last."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def start(main: Callable[[], int]) -> int:
    """Run a command; a signal while it imports is one line and its exit code.

    So is any resource that runs out. On a system that is not Linux nothing would work: libraries
    and system calls are missing.

    Args:
        main: Does its own imports, and returns the exit code. The process's signal handlers are set
            up before it, so this is for the main thread.

    Returns:
        The exit code of the process.
    """
    if sys.platform != "linux":
        print(
            "pageferry: needs Linux (userfaultfd, eventfd, TCP_INFO), also inside a container or a"
            f" virtual machine: this is {sys.platform}",
            file=sys.stderr,
        )
        return 2  # common.errors.EXIT_USAGE
    from pageferry.common.process import signals  # which has signals that other systems lack

    # numpy's linear algebra, which is not used here, would start a thread with a buffer for each
    # processor of the machine, whatever this process is allowed.
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
        signals.ignore_signals()


def _ran_out(error: Exception) -> str | None:
    """Say which limit of this process or host is too low for what was asked; None: none is."""
    try:
        from pageferry.common.capacity.exhausted import ran_out

        return ran_out(error)
    except (ImportError, MemoryError, OSError):  # not even that can be imported
        return f"out of memory or of file descriptors (ulimit -a): {error or type(error).__name__}"
