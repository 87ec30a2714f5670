"""What looks see of a real guest, and of a scripted one; what a probe sends."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from pageferry.common.config.guest import GuestConfig
from pageferry.common.errors import ConnectionBroken
from pageferry.common.guest.compiling import compile_kernels
from pageferry.common.guest.machine import Guest
from pageferry.common.guest.memory import GuestMemory
from pageferry.common.guest.progress import Progress
from pageferry.common.strategy.prediction import Measurement
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire.extents import Pages
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.source_agent.precopy.batches import BATCH_PAGES, SentTotals
from pageferry.source_agent.precopy.page_sender import PageSender
from pageferry.source_agent.prediction.loopback_probe import probe_loopback
from pageferry.source_agent.prediction.sampling import (
    FIRST_LOOK_S,
    PreMigrationSampler,
    look_times,
    measure_guest,
)

PAGES = 256


def test_looks_are_finer_where_growth_is_continued() -> None:
    times = look_times(1.0)
    assert times[-1] == 1.0
    assert times[0] >= FIRST_LOOK_S
    ratios = [b / a for a, b in pairwise(times)]
    assert all(1.1 < each < 1.5 for each in ratios)  # nearer ones would count as one
    assert ratios[-1] < ratios[0]
    assert 15 <= len(times) <= 30


def test_a_short_time_is_one_look() -> None:
    assert look_times(0.001) == [0.001]


class Machine:
    """A guest whose writes are the test's: `log` to memory, `cache`: page -> dirty lines."""

    def __init__(self) -> None:
        self.n_pages = PAGES
        self.memory = GuestMemory(PAGES * PAGE_SIZE)
        self.memory.words[512 * 3 :: 7] = 1  # pages 0 to 2 stay zero
        self.log: set[int] = set()
        self.cache: dict[int, int] = {}
        self.done = 0

    def drain(self) -> int:
        self.log |= set(self.cache)
        self.cache.clear()
        return 0

    def harvest(self, out: Any) -> Any:
        out[sorted(self.log)] |= np.uint64(1)
        self.log.clear()
        return out

    def cached_dirty(self, out: Any) -> Any:
        for page, lines in self.cache.items():
            out[page] |= np.uint64((1 << lines) - 1)
        return out

    def progress(self) -> Any:
        self.done += 1
        return Progress(self.done * 10**9, self.done * 100, 0)


@pytest.fixture
def machine() -> Any:
    return Machine()


def test_a_look_sees_memory_and_cache_since_the_beginning(machine: Any) -> None:
    sampler = PreMigrationSampler(machine, by_line=True)
    machine.log, machine.cache = {200}, {201: 5}  # before: of no account
    begun = sampler.begin()
    machine.log, machine.cache = {10, 11}, {11: 3, 12: 2}
    sampler.look()
    machine.log = {10, 20}
    sampler.look()
    measured = sampler.end(None, begun)
    first, second = measured.looks
    assert (first.pages, first.lines) == (3, 1 + 3 + 2)  # page 11: line 0 is in both
    assert first.memory_bytes == 2 * (12 + 64)
    assert first.cached_bytes == 2 * 12 + 5 * 64
    assert first.bytes == 3 * 12 + 6 * 64
    assert (second.pages, second.lines) == (4, 7)
    assert first.seconds < second.seconds == measured.seconds
    assert (measured.pages_total, measured.zero_pages) == (PAGES, 3)
    assert measured.steps_per_s_before is None
    assert measured.steps_per_s_while == 100


def test_whole_pages_where_nobody_knows_lines(machine: Any) -> None:
    sampler = PreMigrationSampler(machine, by_line=False)
    begun = sampler.begin()
    machine.log = {10, 11}
    sampler.look()
    assert sampler.end(None, begun).looks[0].bytes == 2 * (PAGE_SIZE + 8)


CONFIG = GuestConfig(memory=4 * 2**20, workload="uniform:working-set=512KiB,rate=4MB/s", cache=0)


def run_measure(guest: Guest, seconds: float) -> Measurement:
    async def work() -> Measurement:
        return await measure_guest(
            guest,
            seconds,
            by_line=True,
            booted=guest.progress(),
            blocking=asyncio.to_thread,
            pause=asyncio.sleep,
        )

    return asyncio.run(work())


@pytest.mark.parametrize("kernel", [False, True])
def test_a_running_guest_is_seen_and_left_as_it_was(kernel: bool) -> None:
    """The migration's own log is right afterwards: what is written later is in it."""
    compile_kernels(CONFIG)
    guest = Guest(CONFIG, boot=True)
    try:
        if kernel:
            try:
                guest.track_by_kernel()
            except Exception as error:  # noqa: BLE001 - whatever the host has against it
                pytest.skip(str(error))
            guest.harvest()
        guest.start()
        guest.resume()
        measured = run_measure(guest, 0.1)
        assert len(measured.looks) == len(look_times(0.1))
        assert 0 < measured.looks[-1].pages <= 128
        pages = [each.pages for each in measured.looks]
        assert pages == sorted(pages)
        before = guest.steps()[0]
        guest.harvest()
        guest.pause()
        guest.run_until([before + 4000])
        assert np.count_nonzero(guest.harvest()) == 128
    finally:
        guest.close()


def test_who_waits_may_end_it() -> None:
    guest = Guest(CONFIG, boot=True)

    async def broken(_seconds: float) -> None:
        raise ConnectionBroken("gone")

    async def work() -> None:
        await measure_guest(
            guest,
            60.0,
            by_line=True,
            booted=None,
            blocking=asyncio.to_thread,
            pause=broken,
        )

    try:
        with pytest.raises(ConnectionBroken, match="gone"):
            asyncio.run(work())
    finally:
        guest.close()


@pytest.mark.parametrize("checked", [False, True])
def test_a_probe_sends_pages_that_have_content(
    checked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    real = PageSender.send_batch

    def send_batch(self: PageSender, pages: Pages) -> SentTotals:
        sent.extend(pages.tolist())
        return real(self, pages)

    monkeypatch.setattr(PageSender, "send_batch", send_batch)
    memory = GuestMemory(4 * 2**20)
    memory.fill(1, zero_share=0.5)
    full = np.flatnonzero(~memory.zero_pages(np.arange(memory.n_pages)))
    rate = probe_loopback(memory, StreamFormat(checksum=checked), "cubic")
    assert rate is not None
    assert rate > 0
    assert set(sent) == set(full.tolist())
    memory.close()


@pytest.mark.parametrize("content", [[3, 7], list(range(BATCH_PAGES + 5))])
def test_a_probe_sends_full_batches(content: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A page a frame would measure what a frame costs."""
    sent: list[int] = []
    seen: set[int] = set()
    real = PageSender.send_batch

    def send_batch(self: PageSender, pages: Pages) -> SentTotals:
        sent.append(len(pages))
        seen.update(pages.tolist())
        return real(self, pages)

    monkeypatch.setattr(PageSender, "send_batch", send_batch)
    memory = GuestMemory(2 * BATCH_PAGES * PAGE_SIZE)
    memory.pages[content] = 1
    assert probe_loopback(memory, StreamFormat(checksum=True), "cubic")
    memory.close()
    assert set(sent) == {BATCH_PAGES}
    assert seen == set(content)


def test_a_probe_of_zero_pages_says_nothing() -> None:
    memory = GuestMemory(4 * 2**20)
    assert probe_loopback(memory, StreamFormat(checksum=True), "cubic") is None
    memory.close()
