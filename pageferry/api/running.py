"""Work on a thread of its own: who called for it waits, is told how far it is, and can end it.

The caller's thread does nothing but wait. So whatever reaches it there is dealt with in one place:
Ctrl-C, an exception of its callback, one that a handler of another signal raises, the cancellation
of a task. Each asks the work to end as Ctrl-C asks a command, which says what becomes of the guest,
and is raised when no process, port or network of the work is left.
"""

from __future__ import annotations

import asyncio
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeAlias, TypeVar, cast

from pageferry.common.errors import PageferryError, UsageError
from pageferry.common.process.asking import Asker
from pageferry.common.process.status import Status
from pageferry.common.report.failure import MigrationError

if TYPE_CHECKING:
    from pageferry.common.report.schema import Report
    from pageferry.runs.reports import Reports

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)
OnStatus: TypeAlias = Callable[[Status], object]
Show: TypeAlias = Callable[[Status], None]
Job: TypeAlias = Callable[[Show], T]
_TOO_LATE: Final = "interrupted: what had been begun has ended"


class Interrupted(KeyboardInterrupt):
    """Ctrl-C has ended it, and all that belonged to it is gone.

    Attributes:
        report: Of the migration; it may have completed, where Ctrl-C came too late.
        reports: Of the runs that had finished, where there were several.
    """

    report: Report | None = None
    reports: Reports | None = None


class _Worker(Generic[T]):
    """A job on its thread. tell: is given each status, then None at the end, on that thread."""

    def __init__(self, job: Job[T], tell: Callable[[Status | None], None]) -> None:
        self._job = job
        self._tell = tell
        self._asker = Asker()
        self._thread = threading.Thread(target=self._run, name="pageferry")
        self.value: T | None = None
        self.error: BaseException | None = None

    def start(self) -> None:
        """Begin. Raises `UsageError` where there is no thread left for it."""
        try:
            self._thread.start()
        except RuntimeError as error:
            raise UsageError(f"no thread can be started: {error}") from None

    def ask(self) -> None:
        """Ask it to end; a second time it no longer waits for a peer that does not answer."""
        self._asker.ask()

    def join(self) -> None:
        """Wait for the thread, which has told its end."""
        self._thread.join()

    @property
    def outcome(self) -> T | BaseException | None:
        """What it returned or raised."""
        return self.value if self.error is None else self.error

    def result(self) -> T:
        """What it returned. Raises what it raised."""
        if self.error is not None:
            raise self.error
        return cast(T, self.value)

    def _run(self) -> None:
        try:
            with self._asker.here():
                self.value = self._job(self._tell)
        except BaseException as error:  # noqa: BLE001 - it is raised where it was called
            self.error = _explained(error)
        finally:
            self._tell(None)


def _explained(error: BaseException) -> BaseException:
    """What ran out is said as the commands say it; all else is left as it is."""
    if isinstance(error, (ImportError, MemoryError, OSError, RuntimeError)):
        from pageferry.common.capacity.exhausted import ran_out

        words = ran_out(error)
        if words is not None:
            explained = UsageError(words)
            explained.__cause__ = error
            return explained
    return error


def run(job: Job[T], on_status: OnStatus | None) -> T:
    """Do it, and wait.

    Args:
        job: The work.
        on_status: Called on this thread with each moment of it; what it raises ends the work.

    Raises:
        Interrupted: Ctrl-C came, and this is the main thread.
        BaseException: What the work or `on_status` has raised.
    """
    told: queue.SimpleQueue[Status | None] = queue.SimpleQueue()
    worker = _Worker(job, told.put)
    failure: BaseException | None = None
    with _Interrupts(worker.ask) as interrupts:
        worker.start()
        while True:
            try:
                status = told.get()
                if status is None:
                    break
                if on_status is not None and failure is None:
                    with interrupts.raised():
                        on_status(status)
            except BaseException as error:  # noqa: BLE001 - raised again, when the work has ended
                failure = failure or error
                worker.ask()
        worker.join()
    if interrupts.seen or isinstance(failure, KeyboardInterrupt):
        words = str(worker.error) if isinstance(worker.error, PageferryError) else _TOO_LATE
        raise _noting(Interrupted(words), worker.outcome) from worker.error
    if failure is not None:
        raise failure
    return worker.result()


async def run_async(job: Job[T], on_status: OnStatus | None) -> T:
    """Do it, and await its end.

    Args:
        job: The work.
        on_status: Called in the running loop with each moment of it; what it raises ends the work.

    Raises:
        CancelledError: The task was cancelled; it has the attributes of `Interrupted`.
        BaseException: What the work or `on_status` has raised.
    """
    loop = asyncio.get_running_loop()
    told: asyncio.Queue[Status | None] = asyncio.Queue()

    def tell(status: Status | None) -> None:
        try:
            loop.call_soon_threadsafe(told.put_nowait, status)
        except RuntimeError:  # the loop is closed: nobody waits any more
            worker.ask()

    worker = _Worker(job, tell)
    failure: BaseException | None = None
    worker.start()
    while True:
        try:
            status = await told.get()
            if status is None:
                break
            if on_status is not None and failure is None:
                on_status(status)
        except GeneratorExit:  # the loop has given the task up: nothing can be awaited any more
            worker.ask()
            raise
        except BaseException as error:  # noqa: BLE001 - raised again, when the work has ended
            failure = failure or error
            worker.ask()
    worker.join()
    if isinstance(failure, asyncio.CancelledError):
        # The very one: `asyncio.timeout` takes no subclass of it for its own.
        raise _noting(failure, worker.outcome)
    if failure is not None:
        raise failure
    return worker.result()


def _noting(error: E, outcome: Any) -> E:
    """The error with what was measured by then, as `report` and `reports`."""
    from pageferry.common.report.schema import Report
    from pageferry.runs.reports import Reports

    report = outcome.report if isinstance(outcome, MigrationError) else outcome
    found = report if isinstance(report, Report) else None
    several = outcome if isinstance(outcome, Reports) else None
    vars(error).update(report=found, reports=several)
    return error


class _Interrupts:
    """Ctrl-C while it is entered: in the main thread it asks the work to end, and is noted.

    Elsewhere nothing is done: Python gives signals to the main thread. Nor where Ctrl-C is ignored,
    or handled by other than Python code.
    """

    def __init__(self, ask: Callable[[], None]) -> None:
        self.seen = False
        self._ask = ask
        self._raising = False
        self._before: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGINT)
            if before not in (None, signal.SIG_IGN, signal.SIG_DFL):
                self._before = before
                signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _handle(self, _number: int, _frame: Any) -> None:
        self.seen = True
        self._ask()
        if self._raising:
            self._raising = False
            raise KeyboardInterrupt

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Inside, in the caller's own code, Ctrl-C interrupts that, too."""
        self._raising = True
        try:
            yield
        finally:
            self._raising = False
