"""Two that know nothing of one another must agree on which pages were written: kernel and log."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
from numpy.typing import NDArray

from pageferry.common.config.guest import GuestConfig
from pageferry.common.errors import UsageError
from pageferry.common.guest import kerneldirty
from pageferry.common.guest.kerneldirty import KernelDirty
from pageferry.common.guest.machine import Guest
from pageferry.common.guest.memory import GuestMemory
from pageferry.common.units import PAGE_SIZE
from pageferry.common.userfault import UserfaultUnavailable
from tests.unit.common.guest.conftest import MakeGuest, run_for


class Silent:
    """A log of a guest that does nothing."""

    def harvest(self, out: NDArray[np.uint64]) -> None:
        """Nothing was written."""


def _refusal() -> str:
    memory = GuestMemory(16 * PAGE_SIZE)
    try:
        KernelDirty(memory, Silent()).close()
    except UsageError as error:
        return str(error)
    finally:
        memory.close()
    return ""


REFUSAL = _refusal()
pytestmark = pytest.mark.skipif(bool(REFUSAL), reason=REFUSAL or "available")

WORKLOADS = (
    "uniform:scatter=true",
    "sequential:lines=3,working-set=70%",
    "zipf:write-share=40%",
    "memory-intensive",
    "matrix-multiply",
    "io-intensive",
    "web-browsing",
    "game-server",
    "uniform:zero-share=60%",
)


def pages_of(masks: NDArray[np.uint64]) -> list[int]:
    numbers: list[int] = np.flatnonzero(masks).tolist()
    return numbers


def both(guest: Guest) -> tuple[list[int], list[int]]:
    """One harvest: what the kernel says, what the log says."""
    kernel = guest.kernel_dirty
    assert kernel is not None
    kernel.logged.fill(0)
    masks = guest.harvest()
    assert set(masks[masks != 0].tolist()) <= {2**64 - 1}  # of a page that was written, all of it
    return pages_of(masks), pages_of(kernel.logged)


class TestAgainstTheLog:
    @pytest.mark.parametrize("workload", WORKLOADS)
    @pytest.mark.parametrize(("cache", "vcpus"), [(0, 1), ("64KiB", 2)])
    def test_the_sets_are_equal_at_every_harvest(
        self, make_guest: MakeGuest, workload: str, cache: str | int, vcpus: int
    ) -> None:
        guest = make_guest(workload=workload, cache=cache, vcpus=vcpus)
        guest.track_by_kernel()
        everything, _ = both(guest)
        assert everything == list(range(guest.n_pages))
        assert both(guest) == ([], [])
        chance = random.Random(workload)  # noqa: S311
        seen = 0
        for _ in range(12):
            guest.run_until([done + chance.randrange(4000) for done in guest.steps()])
            if chance.random() < 0.5:
                guest.drain()
            kernel, log = both(guest)
            assert kernel == log
            seen += len(log)
        guest.drain()
        kernel, log = both(guest)
        assert kernel == log
        assert seen + len(log) > 0

    @pytest.mark.parametrize("cache", [0, "64KiB"])
    def test_nothing_is_lost_between_two_harvests_of_a_running_guest(
        self, make_guest: MakeGuest, cache: str | int
    ) -> None:
        guest = make_guest(workload="uniform:scatter=true", cache=cache, vcpus=2)
        guest.track_by_kernel()
        both(guest)
        guest.resume()
        kernels: set[int] = set()
        logs: set[int] = set()
        for _ in range(30):
            run_for(guest, 300)
            kernel, log = both(guest)
            kernels |= set(kernel)
            logs |= set(log)
        guest.pause()
        guest.drain()
        kernel, log = both(guest)
        assert kernels | set(kernel) == logs | set(log)
        assert both(guest) == ([], [])

    def test_back_to_the_log(self, make_guest: MakeGuest) -> None:
        guest = make_guest(workload="sequential:lines=1", cache=0)
        guest.track_by_kernel()
        guest.track_by_kernel()
        guest.harvest()
        guest.track_by_log()
        guest.track_by_log()
        guest.run_until([5])
        masks = guest.harvest()
        assert pages_of(masks) == [0, 1, 2, 3, 4]
        assert np.bitwise_count(masks).sum() == 5


class TestScan:
    def test_more_regions_than_a_call_gives(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(kerneldirty, "_REGIONS", 7)
        memory = GuestMemory(1000 * PAGE_SIZE)
        tracker = KernelDirty(memory, Silent())
        out = np.zeros(1000, np.uint64)
        tracker.harvest(out)
        out.fill(0)
        odd = list(range(1, 1000, 2))
        memory.pages[odd, 0] = 1
        tracker.harvest(out)
        assert pages_of(out) == odd
        out.fill(0)
        tracker.harvest(out)
        assert not out.any()
        tracker.close()
        memory.close()

    def test_reading_is_not_writing_and_the_kernel_writes_too(self) -> None:
        memory = GuestMemory(64 * PAGE_SIZE)
        tracker = KernelDirty(memory, Silent())
        out = np.zeros(64, np.uint64)
        tracker.harvest(out)
        out.fill(0)
        assert memory.zero_pages(np.arange(64)).all()  # pages that were never touched
        tracker.harvest(out)
        assert not out.any()
        read_end, write_end = os.pipe()
        os.write(write_end, b"x" * 100)
        with open(read_end, "rb", buffering=0) as pipe:
            assert pipe.readinto(memory.view[5 * PAGE_SIZE - 50 : 5 * PAGE_SIZE + 50]) == 100
        os.close(write_end)
        tracker.harvest(out)
        assert pages_of(out) == [4, 5]
        tracker.close()
        tracker.close()
        memory.close()

    def test_a_closed_guest_leaves_no_descriptors(self) -> None:
        before = len(os.listdir("/proc/self/fd"))
        guest = Guest(GuestConfig(memory=2**20, cache=0), boot=True)
        guest.track_by_kernel()
        assert len(os.listdir("/proc/self/fd")) > before
        guest.close()
        assert len(os.listdir("/proc/self/fd")) == before


class TestRefusals:
    def refused(self, guest: Guest) -> str:
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(UsageError) as caught:
            guest.track_by_kernel()
        assert len(os.listdir("/proc/self/fd")) == before
        assert guest.kernel_dirty is None
        text = str(caught.value)
        assert text.startswith("--dirty-tracker kernel: ")
        assert "Linux 6.7" in text
        assert "\n" not in text
        return text

    def test_without_userfaultfd_it_is_refused_with_the_reason(
        self, make_guest: MakeGuest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(features: int) -> None:
            raise UserfaultUnavailable(f"no userfaultfd here ({features:#x})")

        guest = make_guest(workload="idle")
        monkeypatch.setattr(kerneldirty, "open_userfault", refuse)
        assert "no userfaultfd here (0xa000)" in self.refused(guest)

    @pytest.mark.parametrize(
        ("pagemap", "why"),
        [("/proc/self/nothing", "No such file"), ("/dev/null", "Inappropriate ioctl")],
    )
    def test_without_pagemap_scan_it_is_refused_with_the_reason(
        self, make_guest: MakeGuest, monkeypatch: pytest.MonkeyPatch, pagemap: str, why: str
    ) -> None:
        guest = make_guest(workload="idle")
        monkeypatch.setattr(kerneldirty, "_PAGEMAP", pagemap)
        assert f"{pagemap}: {why}" in self.refused(guest)

    def test_a_kernel_that_does_not_know_the_mode(
        self, make_guest: MakeGuest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        guest = make_guest(workload="idle")
        monkeypatch.setattr(kerneldirty, "WP_ASYNC", 1 << 62)
        assert "the API handshake: Invalid argument" in self.refused(guest)
