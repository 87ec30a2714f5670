"""The guest's life: states, stamps, holding, harvesting, travelling, releasing."""

from __future__ import annotations

import functools
import os
import resource
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from pageferry.common.config.guest import GuestConfig
from pageferry.common.errors import (
    LocalProtocolError,
    PageferryError,
    RemoteProtocolError,
    UsageError,
)
from pageferry.common.guest import compiling, jit
from pageferry.common.guest import control as c
from pageferry.common.guest.compiling import compile_kernels
from pageferry.common.guest.kernelstore import KernelStore
from pageferry.common.guest.machine import Guest
from pageferry.common.guest.pace import MAX_LAG_NS
from pageferry.common.guest.vcpu import vcpus_cpu_s
from pageferry.common.units import PAGE_SIZE
from tests.unit.common.guest.conftest import MakeGuest, run_for, until

HOT = "uniform:working-set=25%,scatter=true"


def test_a_cache_that_can_not_be_had_is_named() -> None:
    """Where it was there when it was looked for, and somebody else has taken it since."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * PAGE_SIZE
    resource.setrlimit(resource.RLIMIT_AS, (mapped + (256 << 20), hard))
    try:
        with pytest.raises(UsageError, match=r"^no 1GiB of the guest's cache \(--cache\): out of"):
            Guest(GuestConfig(memory=1 << 20, cache=1 << 30), boot=False)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class TestRunning:
    def test_states_and_stamps(self, make_guest: MakeGuest) -> None:
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

    def test_run_until(self, make_guest: MakeGuest) -> None:
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


class TestDirtyLog:
    def test_dirtied_pages_are_counted_once_between_harvests(self, make_guest: MakeGuest) -> None:
        guest = make_guest(workload="sequential", cache=0, vcpus=2)
        guest.run_until([512 * 64 * 3] * 2)
        assert guest.progress().dirtied_pages == 1024
        assert np.count_nonzero(guest.harvest()) == 1024
        guest.run_until([512 * 64 * 3 + 64] * 2)
        assert guest.progress().dirtied_pages == 1026
        out = np.zeros(1024, np.uint64)
        out[700] = 5
        assert guest.harvest(out) is out
        assert np.flatnonzero(out).tolist() == [0, 512, 700]
        assert not guest.harvest().any()

    def test_it_works_before_the_start_and_after_the_end(self, make_guest: MakeGuest) -> None:
        guest = make_guest(workload=HOT, start=False)
        assert not guest.harvest().any()
        assert guest.drain() == 0
        guest.start()
        guest.run_until([1000])
        guest.stop()
        with pytest.raises(LocalProtocolError, match="drain first"):
            guest.digest()
        cached = guest.cached_dirty()
        guest.harvest()
        assert guest.drain() == np.bitwise_count(cached).sum() > 0
        np.testing.assert_array_equal(guest.harvest(), cached)
        assert guest.digest()

    def test_a_harvest_does_not_wait_for_sleepers(self, make_guest: MakeGuest) -> None:
        guest = make_guest(workload="web-browsing:animation=0,think=1h")
        guest.resume()
        guest.set_presence(np.zeros(guest.n_pages, np.uint8))
        for _ in range(20):
            guest.harvest()
        guest.pause()
        guest.harvest()


class TestCache:
    def test_held_dirty_lines_stay(self, make_guest: MakeGuest) -> None:
        """Reads go past dirty lines while held; released, they drive them out."""
        guest = make_guest(workload="uniform:write-share=2%,scatter=true", memory="8MiB")
        guest.hold(True)
        guest.run_until([5_000])
        stats = guest.cache_stats()
        assert stats is not None
        assert stats["write_backs"] == stats["spills"] == 0
        assert stats["misses"] > 1024
        assert np.bitwise_count(guest.cached_dirty()).sum() > 80
        guest.hold(False)
        guest.run_until([20_000])
        stats = guest.cache_stats()
        assert stats is not None
        assert stats["write_backs"] > 0 == stats["spills"]
        assert stats["hits"] + stats["misses"] == 20_000
        before = stats["drained_lines"]
        drained = guest.drain()
        after = guest.cache_stats()
        assert after is not None
        assert after["drained_lines"] == before + drained

    def test_full_of_dirty_lines_it_spills(self, make_guest: MakeGuest) -> None:
        guest = make_guest(workload="uniform:scatter=true")
        guest.hold(True)
        guest.run_until([20_000])
        stats = guest.cache_stats()
        assert stats is not None
        assert stats["spills"] == stats["write_backs"] > 0

    def test_drained_while_running_it_goes_on(self, make_guest: MakeGuest) -> None:
        guest = make_guest(workload="uniform:working-set=64KiB,scatter=true", vcpus=2)
        guest.resume()
        run_for(guest, 20_000)
        assert guest.drain() > 0
        run_for(guest, 20_000)
        guest.pause()
        assert guest.drain() > 0
        assert guest.drain() == 0

    def test_without_one_there_are_no_counts(self, make_guest: MakeGuest) -> None:
        guest = make_guest(workload=HOT, cache=0)
        guest.run_until([100])
        assert guest.cache_stats() is None
        assert guest.drain() == 0
        assert not guest.cached_dirty().any()


class TestMissingPages:
    def test_a_vcpu_says_what_it_needs_and_waits(self, make_guest: MakeGuest) -> None:
        guest = make_guest(workload="sequential", vcpus=2)
        present = np.ones(guest.n_pages, np.uint8)
        present[3] = present[512 + 5] = 0
        guest.set_presence(present)
        guest.resume()
        until(lambda: len(guest.wanted_pages()) == 2)
        poll = select.poll()
        poll.register(guest.fault_eventfd, select.POLLIN)
        assert poll.poll(0)
        assert guest.wanted_pages() == [(0, 3), (1, 517)]
        assert guest.steps() == (3 * 64, 5 * 64)
        guest.drain()
        guest.harvest()
        present[3] = 1
        guest.page_arrived()
        until(lambda: guest.steps()[0] > 1024)
        assert guest.steps()[1] == 5 * 64
        guest.pause()
        guest.resume()
        assert guest.wanted_pages() == [(1, 517)]
        guest.stop()

    @pytest.mark.parametrize(
        "wrong",
        [np.zeros(1024, np.int8), np.zeros(1023, np.uint8), np.zeros(2048, np.uint8)[::2]],
    )
    def test_a_wrong_map_is_refused(self, make_guest: MakeGuest, wrong: Any) -> None:
        guest = make_guest(workload=HOT, start=False)
        with pytest.raises(ValueError, match=r"uint8\[1024\]"):
            guest.set_presence(wrong)


class TestSnapshot:
    def test_it_is_small_and_survives_msgpack(self, make_guest: MakeGuest) -> None:
        guest = make_guest(workload=HOT, vcpus=2)
        guest.run_until([10_000, 20_000])
        with pytest.raises(LocalProtocolError, match="drain first"):
            guest.snapshot()
        guest.drain()
        packed = msgpack.packb(guest.snapshot())
        assert len(packed) < 1000
        other = make_guest(workload=HOT, vcpus=2, start=False)
        other.restore(msgpack.unpackb(packed))
        assert other.steps() == (10_000, 20_000)

    @pytest.mark.parametrize(
        "change",
        [
            None,
            [],
            {},
            {"version": 2},
            {"version": None},
            {"workload": "idle"},
            {"workload": 3},
            {"vcpus": []},
            {"vcpus": None},
            {"vcpus": [b""]},
            {"vcpus": ["x" * 64]},
            {"vcpus": [b"\xff" * 64]},
            {"vcpus": [b"\0" * 64] * 2},
            {"more": 1},
        ],
    )
    def test_nonsense_is_refused(self, make_guest: MakeGuest, change: Any) -> None:
        guest = make_guest(workload=HOT)
        snap = guest.snapshot()
        other = make_guest(workload=HOT, start=False)
        nonsense: Any = {**snap, **change} if isinstance(change, dict) and change else change
        with pytest.raises(RemoteProtocolError):
            other.restore(nonsense)
        assert other.steps() == (0,)
        other.restore(snap)


class TestReleasing:
    def test_nothing_is_left(self) -> None:
        def left() -> tuple[int, int]:
            return len(os.listdir("/proc/self/fd")), threading.active_count()

        before = left()
        for stage in range(4):
            guest = Guest(GuestConfig(memory=2**20, workload=HOT, vcpus=3, cache=0), boot=True)
            if stage >= 1:
                guest.start()
            if stage >= 2:
                guest.resume()
            if stage >= 3:
                guest.set_presence(np.zeros(guest.n_pages, np.uint8))
                until(lambda guest=guest: len(guest.wanted_pages()) == 3)  # type: ignore[misc]
            guest.close()
            guest.close()
            assert guest.state == "stopped"
            assert guest.memory.size == 0
        assert left() == before


class TestCompiling:
    @pytest.mark.parametrize(
        ("kept", "often"), [(True, "first start only"), (False, "they can't be kept")]
    )
    def test_it_is_announced_before_the_first(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kept: bool, often: str
    ) -> None:
        cache = jit.KernelCache(compile_kernels, "")
        target = jit.kernel(until).targetctx  # type: ignore[attr-defined]
        missed = range(0)

        def load(_tiny: GuestConfig) -> None:
            for _ in missed:
                assert cache.load_overload((), target) is None

        monkeypatch.setattr(jit, "STORE", KernelStore((), tmp_path if kept else None))
        monkeypatch.setattr(compiling, "_run_all", load)
        said: list[str] = []
        for number in (0, 2):
            missed = range(number)
            compile_kernels(GuestConfig(workload=HOT), said.append)
            compile_kernels(GuestConfig(workload=HOT))
        assert said == [f"compiling kernels for uniform ({often})"]

    def test_bad_usage_comes_first(self) -> None:
        with pytest.raises(UsageError):
            compile_kernels(GuestConfig(workload="uniform:lines=0"), None)


def test_cpu_time_of_guests_that_have_ended_still_counts(make_guest: MakeGuest) -> None:
    before = vcpus_cpu_s()
    guest = make_guest(workload=HOT)
    guest.run_until([200_000])
    own, while_it_lived = guest.cpu_s(), vcpus_cpu_s()
    guest.close()
    assert own > 0
    assert while_it_lived - before >= 0.999 * own  # large numbers were subtracted
    assert vcpus_cpu_s() >= while_it_lived
