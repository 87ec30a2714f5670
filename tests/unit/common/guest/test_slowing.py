"""A guest that is slowed down: by how much, that it still obeys, and that nothing else changes."""

from __future__ import annotations

import time

import numpy as np
import pytest

from pageferry.common.guest import control as c
from pageferry.common.guest.machine import Guest
from tests.unit.common.guest.conftest import MakeGuest, run_for, until

HOT = "uniform:working-set=25%,scatter=true"
STANDSTILL = 1.0  # bytes a second: a page takes more than an hour


def stopped_by_its_limit(guest: Guest) -> None:
    """A running guest has dirtied a page, and sleeps for it."""
    guest.limit_dirty(STANDSTILL)
    guest.harvest()  # its pages are clean again
    soon_ns = time.monotonic_ns() + 100 * 10**9
    until(lambda: all(m.ctl[c.LIMITED_UNTIL_NS] > soon_ns for m in guest.machines))


class TestThrottle:
    def test_it_sleeps_for_its_share(self, make_guest: MakeGuest) -> None:
        guest = make_guest(workload=HOT)
        guest.resume()
        guest.throttle(0.9)
        run_for(guest, 1)
        cpu_s, slept_s = guest.cpu_s(), guest.slowed_s()
        until(lambda: guest.cpu_s() > cpu_s + 0.01)
        until(lambda: guest.slowed_s() > slept_s + 0.06)  # nine times as long is due
        guest.throttle(0.0)
        slept_s = guest.slowed_s()
        run_for(guest, 10_000)
        assert guest.slowed_s() == slept_s

    def test_by_less_it_runs_more(self, make_guest: MakeGuest) -> None:
        guest = make_guest(workload=HOT)
        guest.resume()
        shares = []
        for throttle in (0.5, 0.99):
            guest.throttle(throttle)
            cpu_s, slept_s = guest.cpu_s(), guest.slowed_s()
            until(lambda since=slept_s: guest.slowed_s() > since + 0.1)  # type: ignore[misc]
            cpu_s, slept_s = guest.cpu_s() - cpu_s, guest.slowed_s() - slept_s
            shares.append(cpu_s / (cpu_s + slept_s))
        assert shares[0] > 4 * shares[1]  # 50 of them are asked for

    def test_a_quantum_and_its_sleep_fit_a_cycle(self, make_guest: MakeGuest) -> None:
        guest = make_guest(workload=HOT)
        guest.resume()
        run_for(guest, 100_000)
        (m,) = guest.machines
        quantum = m.ctl[c.QUANTUM]
        guest.throttle(0.999)
        until(lambda: guest.slowed_s() > 0.05)
        assert m.ctl[c.SLOWED_STEPS] < quantum

    def test_a_schedule_goes_slower(self, make_guest: MakeGuest) -> None:
        guest = make_guest(workload="idle")
        guest.resume()
        guest.throttle(0.9)
        (m,) = guest.machines
        clock, schedule = int(m.ctl[c.CLOCK_NS]), int(m.ctl[c.SCHEDULE_NS])
        until(lambda: m.ctl[c.CLOCK_NS] > clock + 100_000_000)
        stood_still = int(m.ctl[c.SCHEDULE_NS]) - schedule
        assert stood_still > 0.8 * (int(m.ctl[c.CLOCK_NS]) - clock)
        guest.throttle(0.0)
        steps = guest.steps()[0]
        run_for(guest, 20)
        assert guest.steps()[0] >= steps + 20

    def test_steps_do_not_depend_on_it(self, make_guest: MakeGuest) -> None:
        digests = set()
        for throttle in (0.0, 0.7):
            guest = make_guest(workload=HOT, vcpus=2)
            guest.throttle(throttle)
            guest.resume()
            run_for(guest, 2000)
            guest.pause()
            guest.run_until([done + 2000 for done in guest.steps()])
            guest.run_until([max(3_000_000, done) for done in guest.steps()])
            guest.drain()
            digests.add((guest.steps(), guest.digest()))
        assert len(digests) == 1


class TestDirtyLimit:
    @pytest.mark.parametrize("vcpus", [1, 2])
    def test_each_vcpu_keeps_it(self, make_guest: MakeGuest, vcpus: int) -> None:
        guest = make_guest(workload="sequential:lines=1", cache=0, vcpus=vcpus)
        guest.resume()
        guest.limit_dirty(8_192_000)  # 2000 pages a second
        run_for(guest, 1)
        begun = [int(m.ctl[c.DIRTIED]) for m in guest.machines]
        start = time.monotonic()
        for _ in range(20):
            time.sleep(0.01)
            guest.harvest()
        seconds = time.monotonic() - start
        for m, before in zip(guest.machines, begun, strict=True):
            pages = int(m.ctl[c.DIRTIED]) - before
            assert 0 < pages <= 2000 * (seconds + 0.02) + 20  # a cycle of 5 ms, and a credit

    def test_a_page_that_is_dirty_already_is_free(self, make_guest: MakeGuest) -> None:
        guest = make_guest(workload="uniform:working-set=4KiB,scatter=true", cache=0)
        guest.resume()
        run_for(guest, 1000)
        guest.limit_dirty(STANDSTILL)
        run_for(guest, 1000)

    def test_what_a_drain_writes_back_is_free(self, make_guest: MakeGuest) -> None:
        guest = make_guest(workload="uniform:working-set=16KiB,scatter=true")
        guest.resume()
        guest.limit_dirty(STANDSTILL)
        for _ in range(3):
            run_for(guest, 1000)
            assert guest.drain() > 0
            assert np.count_nonzero(guest.harvest()) > 0

    def test_no_limit_is_none(self, make_guest: MakeGuest) -> None:
        guest = make_guest(workload="sequential:lines=1", cache=0)
        guest.resume()
        stopped_by_its_limit(guest)
        guest.limit_dirty(None)
        run_for(guest, 10_000)
        (m,) = guest.machines
        assert m.ctl[c.SLOWED_STEPS] == 1  # the next limit feels its way again


class TestWhileItSleeps:
    def test_every_request_is_answered(self, make_guest: MakeGuest) -> None:
        guest = make_guest(workload="sequential:lines=1", cache=0, vcpus=2)
        guest.resume()
        stopped_by_its_limit(guest)
        steps = guest.steps()
        guest.hold(True)
        guest.hold(False)
        guest.drain()
        guest.harvest()
        guest.throttle(0.5)
        guest.pause()
        guest.resume()
        guest.pause()
        assert guest.steps() == steps
        guest.snapshot()
        guest.stop()

    def test_no_heartbeat_pretends_that_it_makes_progress(self, make_guest: MakeGuest) -> None:
        guest = make_guest(workload="sequential:lines=1", cache=0)
        guest.resume()
        stopped_by_its_limit(guest)
        (before,) = guest.heartbeats()
        time.sleep(0.02)
        guest.harvest()
        (after,) = guest.heartbeats()
        assert after.last_ns == before.last_ns
        guest.limit_dirty(None)
        run_for(guest, 10)
        (after,) = guest.heartbeats()
        assert after.gap_ns >= 20_000_000

    def test_a_replay_is_flat_out(self, make_guest: MakeGuest) -> None:
        guest = make_guest(workload="sequential:lines=1", cache=0)
        guest.resume()
        stopped_by_its_limit(guest)
        guest.throttle(0.9999)
        guest.pause()
        guest.harvest()
        guest.run_until([guest.steps()[0] + 100_000])
