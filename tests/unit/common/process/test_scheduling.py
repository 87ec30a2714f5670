"""Short slices change nothing else about a thread."""

import os
import platform
import threading

import pytest

from pageferry.common.process.scheduling import ask_for_short_slices


def test_policy_and_niceness_stay() -> None:
    seen: list[object] = []

    def body() -> None:
        me = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, me, 3)
        ask_for_short_slices()
        seen.extend([os.sched_getscheduler(me), os.getpriority(os.PRIO_PROCESS, me)])

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert seen == [os.SCHED_OTHER, 3]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == 0


def test_an_unknown_machine_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "abacus")
    assert not ask_for_short_slices()
