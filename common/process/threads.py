"""Threads of ours: what ends one early is handed to whoever depends on it, whatever it is.

A thread that dies in silence leaves somebody waiting for ever, and `threading` itself only prints a
traceback. Every thread of pageferry that belongs to no pool (where the future has its exception) is
one of these.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from pageferry.common.capacity.exhausted import ran_out
from pageferry.common.errors import InternalError, PageferryError


def failure_of(error: BaseException) -> PageferryError:
    """Make the failure that a session ends with because of an error.

    Args:
        error: Whatever was raised.

    Returns:
        An error of ours as it is; for anything else an `InternalError` of one line, with `error` as
        its cause.
    """
    if isinstance(error, PageferryError):
        return error
    first = (str(error).splitlines() or [""])[0]
    words = ran_out(error) or f"unexpected {type(error).__name__}: {first}"
    failure = InternalError(words)
    failure.__cause__ = error
    return failure


class WatchedThread(threading.Thread):
    """A thread that does some work and tells what that raised.

    Args:
        work: What it does.
        name: Of the thread.
        tell: Called on this thread with the failure; None: only `error` keeps it.
        daemon: Whether the process may end without waiting for it.

    Attributes:
        error: What the work raised, as it was raised; None: nothing so far.
    """

    def __init__(
        self,
        work: Callable[[], None],
        name: str,
        tell: Callable[[PageferryError], None] | None = None,
        *,
        daemon: bool = True,
    ) -> None:
        super().__init__(name=name, daemon=daemon)
        self._work = work
        self._tell = tell
        self.error: BaseException | None = None

    def run(self) -> None:
        """Do the work, on the thread itself."""
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - who depends on this thread is told
            self.error = error
            if self._tell is not None:
                self._tell(failure_of(error))
        finally:
            del self._work, self._tell  # what they hold is not held by a thread that has ended

    @property
    def failure(self) -> PageferryError | None:
        """What ended it early, in one line; None: nothing did."""
        return None if self.error is None else failure_of(self.error)

    def raise_failure(self) -> None:
        """Raise `failure`, if there is one.

        Raises:
            PageferryError: The work ended early because of it.
        """
        if self.failure is not None:
            raise self.failure
