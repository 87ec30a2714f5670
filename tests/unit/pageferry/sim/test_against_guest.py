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
    # The cache keeps lines for longer than a round of the set, but a visit touches others then.
    ("sequential:rate=8MB/s,lines=4,working-set=512KiB,scatter=true", "128KiB", 0.5, 1.5),
    ("sequential:rate=8MB/s,lines=4,working-set=1MiB,scatter=true", "128KiB", 0.5, 1.5),
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


# Workload, cache, and when the round before began, this one begins, and it ends.
UNDRAINED = [
    ("uniform:working-set=50%,rate=8MB/s", "64KiB", 0.5, 1.0, 1.2),
    ("uniform:working-set=2%,rate=4MB/s", "256KiB", 0.5, 0.9, 1.0),
    ("uniform:working-set=50%,rate=8MB/s,lines=4,write-share=50%", "128KiB", 0.2, 0.5, 0.7),
    ("zipf:rate=8MB/s,lines=2", "64KiB", 0.2, 0.8, 1.2),
    ("zipf:rate=8MB/s,lines=2,write-share=50%", "256KiB", 0.2, 0.8, 1.2),
    ("sequential:rate=8MB/s,lines=5,working-set=2MiB", "64KiB", 0.5, 0.8, 0.9),
]


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize(("workload", "cache", "drained", "begin", "end"), UNDRAINED)
def test_a_round_that_does_not_drain_leaves_as_much(
    workload: str, cache: str, drained: float, begin: float, end: float, held: bool, vcpus: int
) -> None:
    """The round takes what was written back; what the cache held then may be evicted meanwhile."""
    for guest in guests(workload, cache, vcpus):
        model, _ = working_set(guest.config, by_line=True, steps_per_s=SPEED)
        run_to(guest, model, drained)
        guest.drain()
        guest.harvest()
        run_to(guest, model, begin)
        guest.harvest()  # sent
        guest.hold(held)
        run_to(guest, model, end)
        masks = guest.harvest() | guest.cached_dirty()
        since = max(drained, begin - model.kept_s(begin))
        said = model.stale(since, end, held=held)
        pages, lines = counted(masks)
        # Sets are not all as full as on average: in order, all that goes sooner counts.
        off = 0.1 if workload.startswith("sequential") else 0.06
        assert said.pages == pytest.approx(pages, rel=off, abs=3), (said, pages)
        assert said.lines == pytest.approx(lines, rel=off, abs=6), (said, lines)


def test_a_held_cache_keeps_dirty_lines_for_longer() -> None:
    """Half of what is touched is only read, and has to go first."""
    for guest in guests("uniform:working-set=50%,rate=8MB/s,lines=4,write-share=50%", "128KiB", 1):
        model, _ = working_set(guest.config, by_line=True, steps_per_s=SPEED)
        assert model.kept_s(1.0, held=True) > 1.5 * model.kept_s(1.0)
        run_to(guest, model, 0.3)
        guest.hold(True)
        guest.drain()
        guest.harvest()
        run_to(guest, model, 1.2)
        held = model.stale(0.3, 1.2, held=True)
        assert held.cached_lines == pytest.approx(guest.dirty_lines(), rel=0.08)
        assert held.cached_lines > 1.2 * model.stale(0.3, 1.2).cached_lines


def test_lines_become_dirty_as_often() -> None:
    for workload, cache in [
        ("uniform:working-set=50%,rate=8MB/s,lines=2", "64KiB"),
        ("zipf:rate=8MB/s,lines=2", "64KiB"),
        ("uniform:working-set=2%,rate=4MB/s", "256KiB"),
    ]:
        for guest in guests(workload, cache, 1):
            model, _ = working_set(guest.config, by_line=True, steps_per_s=SPEED)
            run_to(guest, model, 0.4)
            guest.drain()
            before = guest.cache_stats()
            run_to(guest, model, 2.4)
            after = guest.cache_stats()
            assert before is not None
            assert after is not None
            evicted = after["write_backs"] - before["write_backs"]
            said = model.cached_writes(0.4, 2.4)
            assert said.dirtied == pytest.approx(evicted + guest.dirty_lines(), rel=0.08, abs=8)
            assert said.dirtied - said.held == pytest.approx(evicted, rel=0.1, abs=8)
            done = after["hits"] + after["misses"] - before["hits"] - before["misses"]
            assert said.accesses == pytest.approx(done, rel=0.01)


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
