"""The guest's life: holding, harvesting, travelling, releasing."""

from __future__ import annotations

import os
import resource
import select
import threading
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from pageferry.common.config.guest import GuestConfig
from pageferry.common.errors import LocalProtocolError, RemoteProtocolError, UsageError
from pageferry.common.guest import compiling, jit
from pageferry.common.guest.compiling import compile_kernels
from pageferry.common.guest.kernelstore import KernelStore
from pageferry.common.guest.machine import Guest
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
    def test_a_closed_guest_leaves_no_descriptors_and_threads(self) -> None:
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
