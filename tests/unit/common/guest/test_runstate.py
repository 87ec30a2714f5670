"""A guest's run state: states, stamps, replays, pace, heartbeats, CPU time."""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from pageferry.common.config.guest import GuestConfig
from pageferry.common.errors import LocalProtocolError, PageferryError, UsageError
from pageferry.common.guest import control as c
from pageferry.common.guest.machine import Guest
from pageferry.common.guest.pace import MAX_LAG_NS
from pageferry.common.guest.vcpu import vcpus_cpu_s
from tests.unit.common.guest.conftest import MakeGuest, run_for, until

HOT = "uniform:working-set=25%,scatter=true"


class TestRunning:
    def test_each_change_of_state_has_its_stamp(self, make_guest: MakeGuest) -> None:
        guest = make_guest(workload=HOT, vcpus=2, start=False)
        assert guest.state == "new"
        guest.start()
        assert guest.state == "paused"
        before = time.monotonic_ns()
        resumed = guest.resume()
        assert before <= resumed <= time.monotonic_ns()
        assert resumed == max(beats.first_ns for beats in guest.heartbeats())
        assert guest.resume() == resumed
        assert guest.state == "running"
        run_for(guest, 1000)
        before = time.monotonic_ns()
        paused = guest.pause()
        assert before <= paused <= time.monotonic_ns()
        assert guest.pause() == paused
        steps, digest_words = guest.steps(), guest.memory.words.copy()
        time.sleep(0.02)
        assert guest.steps() == steps
        np.testing.assert_array_equal(guest.memory.words, digest_words)
        guest.stop()
        guest.stop()
        assert guest.state == "stopped"

    def test_steps_that_are_out_of_order_are_refused(self, make_guest: MakeGuest) -> None:
        guest = make_guest(workload=HOT, start=False)
        replay = functools.partial(guest.run_until, [1])
        calls: list[Callable[[], object]] = [guest.resume, guest.pause, guest.snapshot, replay]
        for call in calls:
            with pytest.raises(LocalProtocolError, match="the guest is new"):
                call()
        guest.start()
        with pytest.raises(LocalProtocolError, match="the guest is paused"):
            guest.start()
        guest.resume()
        calls = [guest.snapshot, guest.digest, guest.check, replay]
        for call in calls:
            with pytest.raises(LocalProtocolError, match="the guest is running"):
                call()
        guest.stop()
        with pytest.raises(LocalProtocolError, match="the guest is stopped"):
            guest.resume()

    def test_run_until_ends_at_the_steps_and_never_goes_back(self, make_guest: MakeGuest) -> None:
        guest = make_guest(workload="idle", vcpus=2)
        guest.run_until([3000, 5])  # three seconds' worth of ticks, at once
        assert guest.steps() == (3000, 5)
        guest.run_until([3000, 5])
        with pytest.raises(LocalProtocolError, match="cannot run to"):
            guest.run_until([3000, 4])
        with pytest.raises(LocalProtocolError, match="cannot run to"):
            guest.run_until([3001])
        guest.resume()
        run_for(guest, 3)

    def test_a_bad_workload_is_bad_usage(self) -> None:
        with pytest.raises(UsageError):
            Guest(GuestConfig(workload="nothing"), boot=True)

    def test_niceness_is_the_threads_own(self) -> None:
        mine = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        guest = Guest(GuestConfig(memory=2**20, workload=HOT), boot=True, vcpu_nice=7)
        try:
            guest.start()
            (thread,) = [t for t in threading.enumerate() if t.name == "vcpu-0"]
            assert os.getpriority(os.PRIO_PROCESS, thread.native_id or 0) == min(mine + 7, 19)
            assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == mine
        finally:
            guest.close()

    def test_a_vcpu_that_fails_is_reported(
        self, make_guest: MakeGuest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        guest = make_guest(workload=HOT, start=False)

        def fails(_: object) -> None:
            raise ValueError("no luck\nat all")

        monkeypatch.setattr(guest._vcpus, "_kernel", fails)
        with pytest.raises(
            PageferryError, match=r"^a vCPU failed: unexpected ValueError: no luck$"
        ):
            guest.start()

    def test_a_vcpu_that_hangs_is_reported(self, make_guest: MakeGuest) -> None:
        guest = make_guest(workload=HOT)
        with pytest.raises(PageferryError, match=r"did not answer within 0\.05 s"):
            guest._vcpus.wait(lambda: False, "test", 0.05)


class TestPacing:
    def test_a_pause_is_not_owed(self, make_guest: MakeGuest) -> None:
        guest = make_guest(workload="idle")
        guest.resume()
        run_for(guest, 5)
        guest.pause()
        done = guest.steps()[0]
        m = guest.machines[0]
        time.sleep(0.05)
        started = guest.resume()
        assert m.ctl[c.SCHEDULE_NS] + (done + 1) * 1_000_000 == started
        guest.pause()
        seconds = (guest.heartbeats()[0].last_ns - started) / 1e9
        assert guest.steps()[0] - done <= 1 + seconds * 1000

    def test_what_a_stall_owes_is_bounded(self, make_guest: MakeGuest) -> None:
        guest = make_guest(workload="idle")
        guest.resume()
        run_for(guest, 2)
        m = guest.machines[0]
        before = guest.steps()[0]
        m.ctl[c.SCHEDULE_NS] -= 3_600_000_000_000  # as if it had stood still for an hour
        run_for(guest, 100)
        end = time.monotonic_ns()
        first = guest.heartbeats()[0].first_ns
        assert guest.steps()[0] - before <= (MAX_LAG_NS + end - first) / 1e6 + 2

    def test_both_vcpus_have_their_part_of_the_rate(self, make_guest: MakeGuest) -> None:
        guest = make_guest(workload="uniform:rate=8192kB/s,lines=4", vcpus=2)
        for m in guest.machines:
            assert m.ctl[c.PERIOD_STEPS] / m.ctl[c.PERIOD_NS] * 1e9 == pytest.approx(4000)


class TestHeartbeats:
    def test_they_go_on_while_paced_and_gaps_can_be_forgotten(self, make_guest: MakeGuest) -> None:
        guest = make_guest(workload="web-browsing:animation=0,think=1h", vcpus=2)
        guest.resume()
        until(lambda: min(guest.steps()) > 0)
        last = [beats.last_ns for beats in guest.heartbeats()]
        until(lambda: all(b.last_ns > x for b, x in zip(guest.heartbeats(), last, strict=True)))
        for beats in guest.heartbeats():
            assert beats.first_ns <= beats.gap_start_ns < beats.gap_end_ns <= beats.last_ns
            assert beats.gap_ns == beats.gap_end_ns - beats.gap_start_ns
        guest.pause()
        guest.reset_gaps()
        assert [beats.gap_ns for beats in guest.heartbeats()] == [0, 0]

    def test_a_pause_is_no_gap_but_a_missing_page_is(self, make_guest: MakeGuest) -> None:
        guest = make_guest(workload=HOT)
        guest.resume()
        run_for(guest, 100)
        guest.pause()
        guest.reset_gaps()
        time.sleep(0.3)
        guest.resume()
        guest.pause()
        assert guest.heartbeats()[0].gap_ns < 300_000_000
        present = np.zeros(guest.n_pages, np.uint8)
        guest.set_presence(present)
        guest.resume()
        until(lambda: bool(guest.wanted_pages()))
        time.sleep(0.1)
        guest.set_presence(None)
        run_for(guest, 100)
        assert guest.heartbeats()[0].gap_ns > 99_000_000


def test_cpu_time_of_guests_that_have_ended_still_counts(make_guest: MakeGuest) -> None:
    before = vcpus_cpu_s()
    guest = make_guest(workload=HOT)
    guest.run_until([200_000])
    own, while_it_lived = guest.cpu_s(), vcpus_cpu_s()
    guest.close()
    assert own > 0
    assert while_it_lived - before >= 0.999 * own  # large numbers were subtracted
    assert vcpus_cpu_s() >= while_it_lived
