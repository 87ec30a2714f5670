"""One contract for every workload, and what is particular to each."""

from __future__ import annotations

import time

import numpy as np
import pytest

from pageferry.common.errors import UsageError
from pageferry.common.workload.registry import WORKLOADS
from tests.support.tiers import FULL
from tests.unit.common.guest.conftest import MakeGuest, run_for

STEPS = {"idle": 40}  # paced only; the others are run flat out by `run_until`
VARIANTS = [
    *(name for name, spec in WORKLOADS.items() if spec.complete),
    "uniform:scatter=true,write-share=30%,lines=5",
    "zipf:skew=1.3,working-set=1MiB,write-share=0.5",
    "sequential:lines=3,working-set=20%,zero-share=40%,entropy=30%",
    "io-intensive:lines=7",
    "web-browsing:animation=0,think=20ms",
    "game-server:lines=3",
    "uniform:lines=mix:redis,scatter=true,write-share=40%",
    "zipf:lines=mix:gcc",
    "sequential:lines=mix:targz,working-set=30%",
]


WHOLE = [(variant, vcpus) for variant in VARIANTS for vcpus in (1, 2)]
# Each workload as it is with both numbers of vCPUs, those with options with one number in turn.
SAMPLE = [
    (variant, vcpus)
    for row, variant in enumerate(VARIANTS)
    for vcpus in ((1 + row % 2,) if ":" in variant else (1, 2))
]


@pytest.fixture(params=WHOLE if FULL else SAMPLE, ids=lambda case: f"{case[0]}-{case[1]}")
def case(request: pytest.FixtureRequest) -> tuple[str, int]:
    workload, vcpus = request.param
    return str(workload), int(vcpus)


@pytest.fixture
def workload(case: tuple[str, int]) -> str:
    return case[0]


@pytest.fixture
def vcpus(case: tuple[str, int]) -> int:
    return case[1]


def steps_of(workload: str, vcpu: int) -> int:
    return STEPS.get(workload.partition(":")[0], 60_000) + 17 * vcpu


class TestContract:
    def test_steps_alone_determine_memory(
        self, make_guest: MakeGuest, workload: str, vcpus: int
    ) -> None:
        """Cache or none, its geometry, quanta, pauses, drains and holds: the same bytes."""
        geometries: list[dict[str, str | int]] = [
            {"cache": "64KiB"},
            {"cache": 0},
            {"cache": "32KiB", "cache_line": 512, "cache_ways": 4},
        ]
        target = [steps_of(workload, i) for i in range(vcpus)]
        rng = np.random.default_rng(1)
        digests = set()
        for geometry in geometries:
            guest = make_guest(workload=workload, vcpus=vcpus, **geometry)
            start = guest.digest()
            for share in sorted(rng.random(4)):
                guest.hold(bool(rng.integers(2)))
                guest.run_until([int(t * share) for t in target])
                if rng.integers(2):
                    guest.drain()
            guest.run_until(target)
            guest.drain()
            assert guest.steps() == tuple(target)
            assert guest.digest() != start
            assert guest.check() is None
            digests.add((guest.digest(), *guest.snapshot()["vcpus"]))
        assert len(digests) == 1

    def test_no_write_is_lost_to_the_log(
        self, make_guest: MakeGuest, workload: str, vcpus: int
    ) -> None:
        """A copy kept in step by copying harvested lines only is the guest's memory in the end."""
        for cache in ("64KiB", 0):
            guest = make_guest(workload=workload, vcpus=vcpus, cache=cache)
            shadow = guest.memory.words.reshape(-1, 8).copy()

            def copy(masks: np.ndarray, shadow: np.ndarray = shadow) -> None:
                lines = np.unpackbits(masks.view(np.uint8), bitorder="little").astype(bool)
                shadow[lines] = guest.memory.words.reshape(-1, 8)[lines]  # noqa: B023

            guest.resume()
            for _ in range(4):
                run_for(guest, 2)
                guest.drain()
                copy(guest.harvest())
            guest.pause()
            rest = guest.harvest() | guest.cached_dirty()
            guest.drain()
            np.testing.assert_array_equal(guest.harvest() & ~rest, 0)
            copy(rest)
            np.testing.assert_array_equal(shadow, guest.memory.words.reshape(-1, 8))

    def test_it_goes_on_elsewhere(self, make_guest: MakeGuest, workload: str, vcpus: int) -> None:
        here = make_guest(workload=workload, vcpus=vcpus)
        here.resume()
        run_for(here, 5)
        here.pause()
        here.drain()
        there = make_guest(workload=workload, vcpus=vcpus, boot=False, start=False)
        there.memory.words[:] = here.memory.words
        there.restore(here.snapshot())
        assert there.steps() == here.steps()
        there.start()
        there.resume()
        run_for(there, 5)
        there.pause()
        here.run_until(there.steps())
        for guest in (here, there):
            guest.drain()
            assert guest.check() is None
        assert there.digest() == here.digest()
        assert there.snapshot() == here.snapshot()

    def test_missing_pages_arrive_when_wanted(
        self, make_guest: MakeGuest, workload: str, vcpus: int
    ) -> None:
        """Every page is fetched when it is needed; the result is as if it had been there."""
        for cache in ("64KiB", 0):
            full = make_guest(workload=workload, vcpus=vcpus, cache=cache)
            lazy = make_guest(workload=workload, vcpus=vcpus, cache=cache, boot=False)
            origin = full.memory.pages.copy()
            present = np.zeros(lazy.n_pages, np.uint8)
            lazy.set_presence(present)
            goal = [min(steps_of(workload, i), 3_000) for i in range(vcpus)]
            served: set[int] = set()
            lazy.resume()
            while any(done < want for done, want in zip(lazy.steps(), goal, strict=True)):
                before = len(served)
                for _, page in lazy.wanted_pages():
                    if not present[page]:  # it may be on its way to the vCPU
                        served.add(page)
                        lazy.memory.pages[page] = origin[page]
                        present[page] = 1
                lazy.page_arrived()
                if len(served) == before:  # the core is the vCPUs' meanwhile
                    time.sleep(0.0001)
            lazy.pause()
            assert sorted(served) == np.flatnonzero(present).tolist() != []
            lazy.memory.pages[present == 0] = origin[present == 0]
            lazy.set_presence(None)
            full.run_until(lazy.steps())
            for guest in (full, lazy):
                guest.drain()
            assert lazy.digest() == full.digest()


class TestFit:
    def test_a_working_set_must_fit(self, make_guest: MakeGuest) -> None:
        with pytest.raises(UsageError, match="working set of 8MiB does not fit"):
            make_guest(workload="uniform:working-set=8MiB")


class TestWhereTheyWrite:
    """Pages and lines that a workload dirties, counted exactly."""

    def masks(self, make_guest: MakeGuest, workload: str, steps: int) -> np.ndarray:
        guest = make_guest(workload=workload, cache=0)
        guest.run_until([steps])
        return guest.harvest()

    def test_lines_of_a_visit(self, make_guest: MakeGuest) -> None:
        masks = self.masks(make_guest, "uniform:lines=5,working-set=25%", 50_000)
        assert set(np.bitwise_count(masks[:256]).tolist()) == {5}
        assert not masks[256:].any()

    def test_scattered_writes_reach_nearly_all_lines(self, make_guest: MakeGuest) -> None:
        masks = self.masks(make_guest, "uniform:scatter=true,working-set=25%", 200_000)
        assert np.bitwise_count(masks[:256]).min() > 60

    def test_reads_leave_no_mark(self, make_guest: MakeGuest) -> None:
        assert not self.masks(make_guest, "uniform:write-share=0", 10_000).any()

    def test_memory_intensive_writes_half_of_memory(self, make_guest: MakeGuest) -> None:
        masks = self.masks(make_guest, "memory-intensive", 512 * 64)
        assert (masks[:512] == 2**64 - 1).all()
        assert not masks[512:].any()

    def test_idle_writes_one_line(self, make_guest: MakeGuest) -> None:
        masks = self.masks(make_guest, "idle", 20)
        assert int(np.bitwise_count(masks).sum()) == 1

    def test_zipf_prefers_some_pages(self, make_guest: MakeGuest) -> None:
        counts = np.zeros(1024, np.int64)
        guest = make_guest(workload="zipf", cache=0)
        for step in range(200, 20_001, 200):
            guest.run_until([step])
            counts += guest.harvest() != 0
        ranked = np.sort(counts)[::-1]
        assert ranked[0] == 100
        assert ranked[:10].sum() > 5 * ranked[500:510].sum()
        assert not (np.argsort(counts)[::-1][:10] < 20).all()

    def test_game_server_touches_the_whole_world_each_tick(self, make_guest: MakeGuest) -> None:
        pages = round(0.6 * 1024)
        masks = self.masks(make_guest, "game-server", pages)
        assert np.count_nonzero(masks) == pages == np.bitwise_count(masks).sum()

    def test_io_writes_whole_extents_and_metadata(self, make_guest: MakeGuest) -> None:
        masks = self.masks(make_guest, "io-intensive", 32 * 64 + 1)
        counts = np.bitwise_count(masks)
        assert np.count_nonzero(counts == 64) == 32
        assert np.count_nonzero(counts[: 256 // 64] == 1) == 1

    def test_web_browsing_redraws_a_window(self, make_guest: MakeGuest) -> None:
        window = round(0.03 * 1024)
        masks = self.masks(make_guest, "web-browsing", window * 64 + 1)
        assert (masks[:window] == 2**64 - 1).all()
        assert int(np.bitwise_count(masks[window:]).sum()) == 1

    def test_zero_share_is_kept_in_whole_pages(self, make_guest: MakeGuest) -> None:
        guest = make_guest(workload="idle:zero-share=30%")
        zero = guest.memory.zero_pages(np.arange(guest.n_pages))
        assert 0.2 < zero.mean() < 0.4
        np.testing.assert_array_equal(zero, ~guest.memory.pages.any(axis=1))


class TestMatrix:
    @pytest.mark.parametrize("share", [0.3, 1.0, 1.5, 70.0])
    def test_a_wrong_word_of_c_is_found(self, make_guest: MakeGuest, share: float) -> None:
        guest = make_guest(workload="matrix-multiply", memory="64KiB", cache="32KiB")
        size = 48  # five pages a matrix
        assert guest.check() is None
        guest.run_until([int(share * size * size // 8)])
        guest.drain()
        assert guest.check() is None
        c = guest.memory.words[2 * 5 * 512 :].view(np.float64)
        for at in (0, 7 * size + 5):
            kept = c[at]
            c[at] += 1.0
            row, column = divmod(at, size)
            assert f"C[{row}, {column}]" in str(guest.check())
            c[at] = kept
        assert guest.check() is None

    def test_a_wrong_word_of_a_or_b_is_found(self, make_guest: MakeGuest) -> None:
        guest = make_guest(workload="matrix-multiply", memory="64KiB", cache=0)
        guest.run_until([48 * 6 * 10])
        for word in (1, 5 * 512 + 2):
            guest.memory.words[word] ^= np.uint64(1 << 51)
            assert guest.check() is not None
            guest.memory.words[word] ^= np.uint64(1 << 51)
        assert guest.check() is None

    def test_after_the_last_column_it_begins_again(self, make_guest: MakeGuest) -> None:
        guest = make_guest(workload="matrix-multiply", memory="64KiB", cache=0)
        for updates in (48, 49, 100):
            guest.run_until([48 * 6 * updates])
            assert guest.check() is None
