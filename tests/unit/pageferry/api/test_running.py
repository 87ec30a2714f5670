"""A job on its thread, and how whoever waits ends it. The jobs are made up, and do nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from pageferry.api.running import Interrupted, Show, run_job, run_job_async
from pageferry.common.errors import CancelledByUser, UsageError
from pageferry.common.process import signals
from pageferry.common.process.status import Status
from pageferry.common.report.failure import MigrationError
from tests.support.every_report import completed, failed
from tests.support.left_behind import nothing_left


def until_asked(show: Show) -> str:
    """As a migration does: it tells how far it is, and ends well after it was asked to."""
    asked = threading.Event()
    with signals.received(lambda _number: asked.set()):
        show(Status(phase="under way"))
        assert asked.wait(10)
        time.sleep(0.05)
    raise MigrationError("cancelled", 130, failed())


def interrupting(act: Callable[[], None]) -> Callable[[Status], None]:
    return lambda _status: act()


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_what_it_returns_and_raises_comes_out() -> None:
    said: list[str] = []

    def work(show: Show) -> int:
        show(Status(phase="a"))
        show(Status(phase="b"))
        return 3

    assert run_job(work, lambda status: said.append(status.phase)) == 3
    assert said == ["a", "b"]

    def fail(_show: Show) -> int:
        raise UsageError("no")

    with pytest.raises(UsageError, match="no"):
        run_job(fail, None)


def test_ctrl_c_is_raised_when_the_work_has_ended() -> None:
    with nothing_left(), pytest.raises(Interrupted, match="cancelled") as raised:
        run_job(until_asked, interrupting(ctrl_c))
    assert raised.value.report == failed()


def test_ctrl_c_between_two_moments_is_no_other() -> None:
    timer = threading.Timer(0.1, ctrl_c)
    timer.start()
    with nothing_left(), pytest.raises(Interrupted):
        run_job(until_asked, None)
    timer.join()


def test_ctrl_c_reaches_a_callback_that_waits() -> None:
    timer = threading.Timer(0.1, ctrl_c)
    timer.start()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        run_job(until_asked, lambda _status: time.sleep(30))
    assert time.monotonic() - began < 10
    timer.join()


def test_work_that_ended_well_all_the_same_is_told() -> None:
    def work(show: Show) -> object:
        show(Status(phase="nearly done"))
        time.sleep(0.1)
        return completed()

    with pytest.raises(Interrupted) as raised:
        run_job(work, interrupting(ctrl_c))
    assert raised.value.report == completed()


def test_a_second_one_is_passed_on() -> None:
    asked = []

    def work(show: Show) -> None:
        enough = threading.Event()

        def hear(_number: int) -> None:
            asked.append(1)
            if len(asked) == 2:
                enough.set()

        with signals.received(hear):
            show(Status(phase="first"))
            assert enough.wait(10)

    def again(_status: Status) -> None:
        threading.Timer(0.1, ctrl_c).start()
        ctrl_c()

    with nothing_left(), pytest.raises(Interrupted):
        run_job(work, again)
    assert len(asked) == 2


def test_ctrl_c_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert run_job(lambda _show: ctrl_c(), None) is None
    finally:
        signal.signal(signal.SIGINT, before)


def test_off_the_main_thread_no_handler_is_touched() -> None:
    outcomes: list[object] = []

    def stop() -> None:
        raise LookupError("enough")

    def caller() -> None:
        try:
            run_job(until_asked, interrupting(stop))
        except LookupError as error:
            outcomes.append(str(error))

    with nothing_left():
        thread = threading.Thread(target=caller)
        thread.start()
        thread.join()
    assert outcomes == ["enough"]


async def test_a_cancellation_is_raised_when_the_work_has_ended() -> None:
    begun = asyncio.Event()
    task = asyncio.create_task(run_job_async(until_asked, lambda _status: begun.set()))
    await begun.wait()
    task.cancel()
    with nothing_left(), pytest.raises(asyncio.CancelledError) as raised:
        await task
    assert vars(raised.value)["report"] == failed()


def test_ctrl_c_under_asyncio_run_cancels() -> None:
    with nothing_left(), pytest.raises(KeyboardInterrupt):
        asyncio.run(run_job_async(until_asked, interrupting(ctrl_c)))


def test_a_loop_that_is_given_up_ends_the_work() -> None:
    loop = asyncio.new_event_loop()
    coroutine = run_job_async(until_asked, None)
    task = loop.create_task(coroutine)
    loop.run_until_complete(asyncio.sleep(0.05))
    with nothing_left():
        coroutine.close()  # as the interpreter does at its end
        for thread in threading.enumerate():
            if thread.name == "pageferry":
                thread.join(10)
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()


def test_what_ran_out_is_said_in_one_line() -> None:
    def work(_show: Show) -> None:
        raise MemoryError

    with pytest.raises(UsageError, match="memory"):
        run_job(work, None)


def test_what_nobody_has_begun_is_cancelled() -> None:
    def work(_show: Show) -> None:
        raise CancelledByUser("before it began")

    with pytest.raises(CancelledByUser):
        run_job(work, None)
