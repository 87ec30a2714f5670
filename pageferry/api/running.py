"""Work on a thread of its own: its caller waits, is told how far it is, and can end it.

The caller's thread does nothing but wait. So everything that can reach it is handled in one place:
Ctrl-C, an exception from its callback, one raised by another signal's handler, the cancellation of
a task. Each of them asks the work to end, as Ctrl-C asks a command, which decides what becomes of
the guest; it is raised only once no process, port or network of the work is left.
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
    """Ctrl-C has ended the work, and nothing of it is left.

    Attributes:
        report: The migration's report, if there is one. It may have completed, where Ctrl-C came
            too late.
        reports: Those of the finished runs, where there were several; else None.
    """

    report: Report | None = None
    reports: Reports | None = None


class _Worker(Generic[T]):
    """A job on its thread. tell: called there with each status, and with None at the end."""

    def __init__(self, job: Job[T], tell: Callable[[Status | None], None]) -> None:
        self._job = job
        self._tell = tell
        self._asker = Asker()
        self._thread = threading.Thread(target=self._run, name="pageferry")
        self.value: T | None = None
        self.error: BaseException | None = None

    def start(self) -> None:
        """Start the thread. Raises `UsageError` where no more threads can be had."""
        try:
            self._thread.start()
        except RuntimeError as error:
            raise UsageError(f"no thread can be started: {error}") from None

    def ask(self) -> None:
        """Ask the job to end; asked twice, it no longer waits for a peer that does not answer."""
        self._asker.ask()

    def join(self) -> None:
        """Wait for the thread, which has announced its end."""
        self._thread.join()

    @property
    def outcome(self) -> T | BaseException | None:
        """What the job returned or raised."""
        return self.value if self.error is None else self.error

    def result(self) -> T:
        """Return what the job returned, or raise what it raised."""
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
    """Word an exhausted resource as the commands do; leave any other error as it is."""
    if isinstance(error, (ImportError, MemoryError, OSError, RuntimeError)):
        from pageferry.common.capacity.exhausted import ran_out

        words = ran_out(error)
        if words is not None:
            explained = UsageError(words)
            explained.__cause__ = error
            return explained
    return error


def run_job(job: Job[T], on_status: OnStatus | None) -> T:
    """Run a job on a thread of its own, and wait for it.

    Args:
        job: The work; it is called once, with a function that takes each `Status`.
        on_status: Called on this thread with each of them; what it raises ends the work. None
            ignores them.

    Returns:
        What the job returned.

    Raises:
        Interrupted: Ctrl-C came, and this is the main thread; or `on_status` raised
            `KeyboardInterrupt`.
        UsageError: No thread can be started, or the work ran out of something.
        BaseException: Whatever the work or `on_status` has raised.
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


async def run_job_async(job: Job[T], on_status: OnStatus | None) -> T:
    """Run a job on a thread of its own, and await its end.

    Args:
        job: The work; it is called once, with a function that takes each `Status`.
        on_status: Called in the running loop with each of them; what it raises ends the work. None
            ignores them.

    Returns:
        What the job returned.

    Raises:
        CancelledError: The task was cancelled; it has the attributes of `Interrupted`.
        UsageError: No thread can be started, or the work ran out of something.
        BaseException: Whatever the work or `on_status` has raised.
    """
    loop = asyncio.get_running_loop()
    told: asyncio.Queue[Status | None] = asyncio.Queue()

    def tell(status: Status | None) -> None:
        try:
            loop.call_soon_threadsafe(told.put_nowait, status)
        except RuntimeError:  # the loop is closed: nobody is waiting
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
        except GeneratorExit:  # the loop has dropped the task: nothing can be awaited
            worker.ask()
            raise
        except BaseException as error:  # noqa: BLE001 - raised again, when the work has ended
            failure = failure or error
            worker.ask()
    worker.join()
    if isinstance(failure, asyncio.CancelledError):
        # The same object: `asyncio.timeout` does not recognise a subclass as its own.
        raise _noting(failure, worker.outcome)
    if failure is not None:
        raise failure
    return worker.result()


def _noting(error: E, outcome: Any) -> E:
    """Attach what had been measured to the error, as `report` and `reports`."""
    from pageferry.common.report.schema import Report
    from pageferry.runs.reports import Reports

    report = outcome.report if isinstance(outcome, MigrationError) else outcome
    found = report if isinstance(report, Report) else None
    several = outcome if isinstance(outcome, Reports) else None
    vars(error).update(report=found, reports=several)
    return error


class _Interrupts:
    """Ctrl-C while this is entered: in the main thread it asks the work to end, and is noted.

    On other threads nothing is done: Python gives signals to the main thread. The same where Ctrl-C
    is ignored, has its default action, or is handled by something other than Python code.
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
        """Have Ctrl-C interrupt the code inside, too: it is the caller's own."""
        self._raising = True
        try:
            yield
        finally:
            self._raising = False
