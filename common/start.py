"""The first moments of a command, before there is anything to import but this, and its last."""

from __future__ import annotations

from common import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def start(main: Callable[[], int]) -> int:
    """Run `main`, which does its own imports: a signal meanwhile is one line and its exit code."""
    signals.begin()
    try:
        return main()
    finally:
        signals.finish()
