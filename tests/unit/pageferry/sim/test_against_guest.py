"""Working sets as figures beside what real guests write, step for step the same stretch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from pageferry.common.config.guest import GuestConfig
from pageferry.common.guest.machine import Guest
from pageferry.common.strategy.conditions import Stale
from pageferry.sim.working_set import WorkingSet
from pageferry.sim.workloads import working_set

# A guest that is not behind its schedule for long.
SPEED = 1e8

# Workload, cache, and from when to when (s of a guest that keeps to its rate).
STRETCHES = [
    ("uniform:working-set=50%,rate=8MB/s", "64KiB", 0.5, 1.0),
    ("uniform:working-set=50%,rate=8MB/s,lines=6,scatter=true", "64KiB", 0.3, 0.8),
    ("uniform:working-set=50%,rate=8MB/s,lines=4,write-share=30%", "256KiB", 0.0, 0.5),
    ("uniform:working-set=2%,rate=4MB/s", "256KiB", 0.5, 0.9),
    ("zipf:rate=8MB/s,lines=2", "64KiB", 0.2, 1.2),
    ("zipf:rate=8MB/s,skew=1.3,scatter=true,lines=3", "64KiB", 0.2, 1.2),
    ("sequential:rate=8MB/s,working-set=75%", "64KiB", 0.5, 1.0),
    ("sequential:rate=8MB/s,lines=5,working-set=2MiB", "64KiB", 0.5, 1.0),
    ("uniform:working-set=50%,rate=32MB/s,lines=mix:redis", "64KiB", 0.3, 0.8),
    ("uniform:working-set=50%,rate=8MB/s,lines=mix:targz,write-share=50%", "0", 0.2, 0.6),
    ("zipf:rate=8MB/s,lines=mix:gcc", "64KiB", 0.2, 1.2),
    ("zipf:rate=8MB/s,lines=mix:gcc,scatter=true", "256KiB", 0.2, 1.2),
    ("sequential:rate=8MB/s,lines=mix:sqlite,working-set=2MiB", "64KiB", 0.5, 1.4),
    ("memory-intensive:rate=20MB/s", "256KiB", 0.1, 0.2),
    ("io-intensive:rate=20MB/s", "64KiB", 0.2, 0.45),
    ("game-server:ticks=10", "64KiB", 1.0, 1.05),
    ("game-server:ticks=10,lines=3", "0", 0.95, 1.0),
    ("web-browsing:think=1s", "0", 0.5, 0.9),
    ("web-browsing:think=1s,working-set=10%", "64KiB", 0.5, 1.25),
]


@pytest.fixture(params=[1, 2])
def vcpus(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def guests(workload: str, cache: str, vcpus: int) -> Iterator[Guest]:
    values = {"memory": "16MiB", "workload": workload, "cache": cache, "vcpus": vcpus}
    guest = Guest(GuestConfig.model_validate(values), boot=True)
    try:
        guest.start()
        yield guest
    finally:
        guest.close()


def run_to(guest: Guest, model: WorkingSet, seconds: float) -> None:
    each = round(model.steps(0.0, seconds) / model.vcpus)
    guest.run_until([each] * model.vcpus)


def counted(masks: np.ndarray) -> tuple[int, int]:
    return int(np.count_nonzero(masks)), int(np.bitwise_count(masks).sum())


@pytest.mark.parametrize(("workload", "cache", "begin", "end"), STRETCHES)
def test_as_many_pages_and_lines(
    workload: str, cache: str, begin: float, end: float, vcpus: int
) -> None:
    for guest in guests(workload, cache, vcpus):
        model, _ = working_set(guest.config, by_line=True, steps_per_s=SPEED)
        run_to(guest, model, begin)
        guest.drain()
        guest.harvest()
        run_to(guest, model, end)
        cached = guest.cached_dirty()
        written_back = guest.harvest()
        said = model.stale(begin, end)
        pages, lines = counted(cached | written_back)
        # Some dozens of extents are left to chance, not thousands of pages.
        off = 0.12 if workload.startswith("io") else 0.06 if "mix:" in workload else 0.03
        assert said.pages == pytest.approx(pages, rel=off, abs=3), (said, pages)
        assert bytes_of(said) == pytest.approx(12 * pages + 64 * lines, rel=off, abs=228)
        if guest.config.cache:
            # Sets are not all as full as on average: some lines go sooner, and some later.
            some = max(off, 0.06) * (12 * pages + 64 * lines)
            assert said.cached_lines == pytest.approx(counted(cached)[1], abs=some / 64 + 3)
            in_memory = bytes_of(said) * said.memory_share
            assert in_memory == pytest.approx(size(written_back), abs=some + 228)


def size(masks: np.ndarray) -> int:
    pages, lines = counted(masks)
    return 12 * pages + 64 * lines


def bytes_of(said: Stale) -> float:
    """Whole pages are four bytes shorter than all of their lines."""
    return said.bytes if said.bytes < 4000 * said.pages else said.bytes * 4108 / 4104


def test_matrices_are_swept() -> None:
    for guest in guests("matrix-multiply", "64KiB", 1):
        model, _ = working_set(guest.config, by_line=True, steps_per_s=1e6)
        run_to(guest, model, 0.2)
        guest.drain()
        guest.harvest()
        run_to(guest, model, 0.23)
        pages, _ = counted(guest.harvest() | guest.cached_dirty())
        assert model.stale(0.2, 0.23).pages == pytest.approx(pages, rel=0.03)
        whole = model.stale(0.2, 2.0).pages
        assert whole == pytest.approx(guest.n_pages / 3, rel=0.01)
