"""Asking the work of a thread to end, as a signal asks a process."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable

import pytest

from pageferry.common.process import signals
from pageferry.common.process.asking import Asker


def on_a_thread(work: Callable[[], None]) -> None:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def test_the_innermost_receiver_hears_of_it() -> None:
    asker, heard = Asker(), list[str]()

    def work() -> None:
        with asker.here(), signals.received(lambda _number: heard.append("outer")):
            with signals.received(lambda _number: heard.append("inner")):
                asker.ask()
            asker.ask()

    on_a_thread(work)
    assert heard == ["inner", "outer"]


def test_what_was_asked_before_anybody_listened_is_heard_then() -> None:
    asker, heard = Asker(), list[int]()
    asker.ask()

    def work() -> None:
        with asker.here(), signals.noted():
            asker.ask()
            assert heard == []
            with signals.received(heard.append):
                pass

    on_a_thread(work)
    assert heard == [signal.SIGINT] * 2


def test_a_thread_without_one_is_left_alone() -> None:
    before = [signal.getsignal(number) for number in signals.ASKING]

    def work() -> None:
        with signals.received(lambda _number: None):
            assert [signal.getsignal(number) for number in signals.ASKING] == before

    on_a_thread(work)


def test_what_is_woken_ends_as_if_interrupted() -> None:
    asker, woken = Asker(), list[str]()

    def work() -> None:
        with asker.here(), signals.raising(lambda: woken.append("now")):
            asker.ask()
            raise OSError("the pipe that was waited for is broken")

    with pytest.raises(KeyboardInterrupt):
        on_a_thread(work)
    assert woken == ["now"]


def test_what_fails_by_itself_is_no_interruption() -> None:
    def work() -> None:
        with Asker().here(), signals.raising():
            raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        on_a_thread(work)


def test_nothing_is_kept_of_a_thread_that_has_ended() -> None:
    def work() -> None:
        with contextlib.suppress(LookupError), Asker().here():
            raise LookupError

    on_a_thread(work)
    assert signals.ASKERS == {}
