"""Threads of ours: what ends one early is handed to whoever depends on it, whatever it is.

A thread that dies in silence leaves somebody waiting for ever, and `threading` itself only prints a
traceback. Every thread of pageferry that is not of a pool (where the future has its exception) is
one of these.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from pageferry.common.capacity.exhausted import ran_out
from pageferry.common.errors import InternalError, PageferryError


def failure_of(error: BaseException) -> PageferryError:
    """What a session ends with because of it: ours as it is, anything else in one line."""
    if isinstance(error, PageferryError):
        return error
    first = (str(error).splitlines() or [""])[0]
    words = ran_out(error) or f"unexpected {type(error).__name__}: {first}"
    failure = InternalError(words)
    failure.__cause__ = error
    return failure


class WatchedThread(threading.Thread):
    """Does `work`; `tell` is called on this thread with what it raised.

    error: that, as it was raised; None: nothing so far.
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
        """The thread's life."""
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
        """Raises `failure`, if there is one."""
        if self.failure is not None:
            raise self.failure
