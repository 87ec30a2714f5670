"""What the cache did in a round, beside what the guest's own counters and masks say."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from pageferry.common.config.guest import GuestConfig
from pageferry.common.guest.machine import Guest
from pageferry.source_agent.precopy.cache_watch import CacheWatch


def make(cache: str, workload: str) -> Guest:
    values = {"memory": "16MiB", "cache": cache, "workload": workload}
    return Guest(GuestConfig.model_validate(values), boot=True)


@pytest.fixture
def guest() -> Iterator[Guest]:
    guest = make("64KiB", "uniform:working-set=4MiB,lines=4,rate=40MB/s")
    try:
        guest.start()
        yield guest
    finally:
        guest.close()


def run_on(guest: Guest, steps: int) -> None:
    guest.run_until([steps])


def test_each_line_that_became_dirty_is_counted_once(guest: Guest) -> None:
    run_on(guest, 1000)
    guest.drain()
    guest.harvest()
    watch = CacheWatch(guest)
    watch.begin()
    run_on(guest, 1000 + 4096)  # every access writes
    cached = guest.cached_dirty()
    masks = cached | guest.harvest()
    pages, lines = int(np.count_nonzero(masks)), int(np.bitwise_count(masks).sum())
    seen = watch.end(2.0, pages, lines)
    assert seen is not None
    assert seen.dirty_lines == int(np.bitwise_count(cached).sum()) == guest.dirty_lines()
    assert seen.lines_per_page == pytest.approx(4.0)  # always the same four of a page
    written_back = seen.write_back_Bps * 2.0 / 64
    # What became dirty is what was evicted since, and what is dirty now: nothing was before.
    dirtied = 4096 * (1 - seen.dirty_hit_rate)
    assert dirtied == pytest.approx(written_back + seen.dirty_lines)
    assert dirtied >= lines


def test_a_set_that_fits_is_dirtied_once() -> None:
    guest = make("1MiB", "uniform:working-set=64KiB,lines=4,rate=40MB/s")
    try:
        guest.start()
        watch = CacheWatch(guest)
        watch.begin()
        run_on(guest, 6400)
        seen = watch.end(1.0, 16, 64)
        assert seen is not None
        assert seen.dirty_lines == 64
        assert seen.dirty_hit_rate == pytest.approx(1 - 64 / 6400)
        assert seen.write_back_Bps == 0
        watch.begin()
        run_on(guest, 12800)
        again = watch.end(1.0, 16, 64)
        assert again is not None
        assert again.dirty_hit_rate == 1.0
    finally:
        guest.close()


def test_nothing_is_known_without_a_cache() -> None:
    guest = make("0", "idle")
    try:
        watch = CacheWatch(guest)
        watch.begin()
        assert watch.end(1.0, 1, 1) is None
    finally:
        guest.close()
