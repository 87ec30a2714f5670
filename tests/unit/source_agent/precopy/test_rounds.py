"""What rounds send, and in which order they go about it: a scripted guest and a scripted wire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from pageferry.common.config.guest import GuestConfig
from pageferry.common.errors import ConnectionBroken
from pageferry.common.guest.machine import Guest
from pageferry.common.strategy.base import NextRound, RoundKind
from pageferry.common.strategy.carrying import MEASURABLE_BYTES, ROUND_S
from pageferry.common.timeline import Timeline
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire import bitmap
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.source_agent.precopy.batches import RoundPages, SentTotals
from pageferry.source_agent.precopy.page_sender import PageSender
from pageferry.source_agent.precopy.rounds import (
    DRAIN_LINE_S,
    SCAN_PAGE_S,
    SWITCHOVER_S,
    Round,
    Rounds,
)

N_PAGES = 21  # no whole number of bytes of a bitmap
PAUSED_NS = 123_456
RATE = 5e7
RTT_S = 0.25


class ScriptedGuest:
    """`log`: pages written to memory, `cache`: page -> dirty lines; both as a test puts them."""

    def __init__(self, calls: list[Any]) -> None:
        self.n_pages = N_PAGES
        self.calls = calls
        self.log: set[int] = set()
        self.cache: dict[int, int] = {}
        self.write_later: set[int] = set()  # written while pages are on their way
        self.config = GuestConfig()
        self.counters: dict[str, int] | None = None  # of the cache

    def cache_stats(self) -> dict[str, int] | None:
        return None if self.counters is None else dict(self.counters)

    def dirty_lines(self) -> int:
        return sum(self.cache.values())

    def hold(self, on: bool) -> None:
        self.calls.append(("hold", on))

    def drain(self) -> int:
        self.calls.append("drain")
        lines = sum(self.cache.values())
        self.log |= set(self.cache)
        self.cache.clear()
        return lines

    def harvest(self, out: NDArray[np.uint64]) -> NDArray[np.uint64]:
        self.calls.append("harvest")
        out[sorted(self.log)] |= np.uint64(1 << 63)
        self.log.clear()
        return out

    def cached_dirty(self, out: NDArray[np.uint64]) -> NDArray[np.uint64]:
        self.calls.append("cached_dirty")
        for page, lines in self.cache.items():
            out[page] |= np.uint64((1 << lines) - 1)
        return out

    def throttle(self, share: float) -> None:
        self.calls.append(("throttle", share))

    def pause(self) -> int:
        self.calls.append("pause")
        return PAUSED_NS

    def snapshot(self, *, drained: bool = True) -> dict[str, Any]:
        self.calls.append(("snapshot", drained))
        return {"of": "the guest"}


class ScriptedPageSender:
    """Every fourth page is zero. bytes: as `size` says."""

    def __init__(self, calls: list[Any], guest: ScriptedGuest) -> None:
        self.calls = calls
        self.guest = guest
        self.sent: list[list[int]] = []
        self.indices: list[int] = []
        self.sent_bytes = 0
        self.size = 1000
        self.left = RoundPages(np.empty(0, np.int64))
        self.lined: list[dict[int, int]] = []
        self.looks: list[int] = []  # what goes out before each look
        self.moved = SentTotals(5, 1, 400)  # by a round that breaks
        self.breaks = False

    def guest_is_still(self, still: bool) -> None:
        assert still
        assert "pause" in self.calls

    def send_round(
        self, round_pages: RoundPages, index: int, look: Callable[[bool], None] | None = None
    ) -> tuple[SentTotals, RoundPages]:
        self.calls.append("send")
        if self.breaks:
            raise ConnectionBroken("gone")
        if look is not None:
            for size in self.looks:
                self.sent_bytes += max(size, 0)
                look(size < 0)  # an early one
        numbers = round_pages.whole.tolist()
        self.lined.append(
            dict(zip(round_pages.lined.tolist(), round_pages.masks.tolist(), strict=True))
        )
        self.sent.append(numbers)
        self.indices.append(index)
        self.guest.log |= self.guest.write_later
        self.guest.write_later = set()
        self.sent_bytes += self.size
        zeros = sum(page % 4 == 0 for page in numbers)
        return SentTotals(len(numbers) - zeros, zeros, self.size), self.left


class Bench:
    def __init__(self, *, by_line: bool = False) -> None:
        self.calls: list[Any] = []
        self.guest = ScriptedGuest(self.calls)
        self.page_sender = ScriptedPageSender(self.calls, self.guest)
        self.timeline = Timeline("source")
        guest, page_sender = cast(Guest, self.guest), cast(PageSender, self.page_sender)
        self.rounds = Rounds(
            guest, page_sender, self.timeline, RATE, RTT_S, stream=StreamFormat(by_line=by_line)
        )
        assert self.calls == []

    def send(self, kind: RoundKind, *, drain: bool = False, hold: bool = False) -> Round:
        self.calls.clear()
        return self.rounds.send(NextRound(kind, drain, hold, "because"))

    def full(self) -> None:
        """The first round, with nothing left over."""
        self.rounds.acknowledged(self.send(RoundKind.FULL), 1.0)
        self.calls.clear()


@pytest.fixture
def bench() -> Bench:
    return Bench()


ALL = list(range(N_PAGES))


class TestWhatARoundSends:
    def test_the_first_round_sends_every_page(self, bench: Bench) -> None:
        bench.guest.log = {3, 5}
        this = bench.send(RoundKind.FULL)
        assert bench.page_sender.sent == [ALL]
        assert (this.index, this.kind) == (1, RoundKind.FULL)
        assert this.totals == SentTotals(15, 6, 1000)
        assert bench.rounds.pages_resent == 0

    def test_what_was_written_before_a_full_round_does_not_go_again(self, bench: Bench) -> None:
        bench.guest.log = {3, 5}
        bench.guest.write_later = {8}
        bench.rounds.acknowledged(bench.send(RoundKind.FULL), 1.0)
        bench.send(RoundKind.DIRTY)
        assert bench.page_sender.sent == [ALL, [8]]

    @pytest.mark.parametrize("kind", [RoundKind.DIRTY, RoundKind.DRAIN])
    def test_the_stale_pages_in_order(self, bench: Bench, kind: RoundKind) -> None:
        bench.full()
        bench.guest.log = {20, 3, 8, 0}
        this = bench.send(kind)
        assert bench.page_sender.sent[1:] == [[0, 3, 8, 20]]
        assert bench.page_sender.indices == [1, 2]
        assert (this.index, this.totals.pages, this.totals.zero_pages) == (2, 1, 3)
        assert bench.rounds.pages_resent == 4

    def test_a_page_is_stale_until_a_round_sends_it_and_no_longer(self, bench: Bench) -> None:
        bench.full()
        bench.guest.log = {1}
        bench.guest.write_later = {1, 2}
        first = bench.send(RoundKind.DIRTY)
        bench.guest.log |= {3}
        assert bench.rounds.acknowledged(first, 1.0).dirty_pages_after == 3
        second = bench.send(RoundKind.DIRTY)
        assert bench.rounds.acknowledged(second, 1.0).dirty_pages_after == 0
        bench.send(RoundKind.DIRTY)
        assert bench.page_sender.sent[1:] == [[1], [1, 2, 3], []]
        assert bench.rounds.pages_resent == 4

    def test_what_the_cache_holds_waits_for_a_drain(self, bench: Bench) -> None:
        bench.full()
        bench.guest.cache = {7: 5, 9: 1}
        bench.guest.log = {2}
        held = bench.send(RoundKind.DIRTY, hold=True)
        assert (bench.page_sender.sent[-1], held.drained_lines) == ([2], 0)
        assert bench.rounds.acknowledged(held, 1.0).dirty_pages_after == 2
        drained = bench.send(RoundKind.DRAIN, drain=True, hold=True)
        assert (bench.page_sender.sent[-1], drained.drained_lines) == ([7, 9], 6)
        assert bench.rounds.acknowledged(drained, 1.0).dirty_pages_after == 0

    @pytest.mark.parametrize("kind", [RoundKind.FULL, RoundKind.DIRTY, RoundKind.DRAIN])
    @pytest.mark.parametrize("drain", [False, True])
    @pytest.mark.parametrize("hold", [False, True])
    def test_as_ordered_and_in_that_order(
        self, bench: Bench, kind: RoundKind, drain: bool, hold: bool
    ) -> None:
        bench.send(kind, drain=drain, hold=hold)
        assert bench.calls == [("hold", hold), *["drain"] * drain, "harvest", "send"]

    def test_progress_of_the_present_round(self, bench: Bench) -> None:
        bench.full()
        bench.guest.log = {1, 2, 3}
        bench.send(RoundKind.DIRTY)
        assert bench.rounds.round_start_bytes == 1000
        assert bench.rounds.round_expected == 3 * (PAGE_SIZE + 8)


class TestByLine:
    def test_what_was_sent_before_and_changed_little(self) -> None:
        bench = Bench(by_line=True)
        bench.full()
        assert (bench.page_sender.sent, bench.page_sender.lined) == ([ALL], [{}])
        bench.guest.cache = {3: 1, 5: 63, 7: 64}
        bench.guest.log = {9}
        bench.send(RoundKind.DRAIN, drain=True)
        # The scripted drain marks one line of each page that the cache held.
        assert bench.page_sender.sent[-1] == []
        assert bench.page_sender.lined[-1] == dict.fromkeys((3, 5, 7, 9), 1 << 63)
        assert bench.rounds.pages_resent == 4

    def test_what_never_went_goes_whole(self) -> None:
        bench = Bench(by_line=True)
        bench.guest.log = {2, 3}
        bench.rounds.acknowledged(bench.send(RoundKind.DIRTY), 1.0)
        bench.guest.log = {3, 4}
        bench.send(RoundKind.DIRTY)
        assert (bench.page_sender.sent, bench.page_sender.lined) == (
            [[2, 3], [4]],
            [{}, {3: 1 << 63}],
        )

    def test_a_page_of_many_changed_lines_is_shorter_whole(self) -> None:
        bench = Bench(by_line=True)
        this = bench.send(RoundKind.FULL)
        bench.guest.cache = {3: 1, 5: 63, 7: 64}
        stats = bench.rounds.acknowledged(this, 1.0)
        assert stats.dirty_pages_after == 3
        assert stats.remaining_bytes == (12 + 64) + (12 + 63 * 64) + (4096 + 8)

    def test_what_is_expected_of_a_round(self) -> None:
        bench = Bench(by_line=True)
        bench.full()
        bench.guest.log = {1, 2}
        bench.send(RoundKind.DIRTY)
        assert bench.rounds.round_expected == 2 * (12 + 64)

    def test_whole_pages_where_that_is_ordered(self) -> None:
        bench = Bench(by_line=True)
        bench.full()
        bench.guest.log = {1, 2}
        order = NextRound(RoundKind.DRAIN, drain=True, hold=False, reason="", whole_pages=True)
        bench.rounds.send(order)
        assert bench.rounds.round_expected == 2 * (4096 + 8)


class TestStats:
    def test_each_stale_page_once(self, bench: Bench) -> None:
        this = bench.send(RoundKind.FULL)
        bench.guest.log = {1, 2, 3}
        bench.guest.cache = {3: 64, 4: 1, 5: 7}
        stats = bench.rounds.acknowledged(this, 9.5)
        assert stats.dirty_pages_after == this.dirty_pages_after == 5
        assert stats.in_memory == (3, 3 * (4096 + 8))
        assert stats.in_cache == (3, 3 * (4096 + 8))
        assert stats.remaining_bytes == 5 * (4096 + 8)
        # What comes last travels one way; nothing has to come back before the guest runs there.
        scan_s = N_PAGES * SCAN_PAGE_S
        switchover_s = SWITCHOVER_S + scan_s + RTT_S / 2 + 72 * DRAIN_LINE_S
        assert stats.switchover_s == pytest.approx(switchover_s)
        assert (stats.index, stats.kind, stats.pages_total) == (1, RoundKind.FULL, N_PAGES)
        assert (stats.pages_sent, stats.bytes_sent, stats.elapsed_s) == (N_PAGES, 1000, 9.5)
        assert bench.rounds.done == [this]

    def test_what_the_cache_did_in_the_round(self, bench: Bench) -> None:
        bench.guest.counters = {"hits": 100, "misses": 10, "write_backs": 3, "drained_lines": 5}
        this = bench.send(RoundKind.FULL)
        bench.guest.counters = {"hits": 160, "misses": 50, "write_backs": 13, "drained_lines": 7}
        bench.guest.cache = {4: 1, 5: 7}
        stats = bench.rounds.acknowledged(this, 1.0)
        assert stats.cache is not None
        # 10 were evicted and 2 drained, and 8 are dirty now: 20 of 100 accesses dirtied a line
        assert stats.cache.dirty_hit_rate == pytest.approx(0.8)
        assert stats.cache.write_back_Bps == pytest.approx(10 * 64 / stats.duration_s)
        assert stats.cache.dirty_lines == 8
        assert stats.cache.lines_per_page == 4

    def test_the_cache_is_looked_at_before_the_log(self, bench: Bench) -> None:
        this = bench.send(RoundKind.FULL)
        bench.calls.clear()
        bench.rounds.acknowledged(this, 1.0)
        assert bench.calls == ["cached_dirty", "harvest"]

    def test_the_cache_of_a_round_before_is_forgotten(self, bench: Bench) -> None:
        this = bench.send(RoundKind.FULL)
        bench.guest.cache = {4: 1}
        assert bench.rounds.acknowledged(this, 1.0).dirty_pages_after == 1
        bench.guest.cache = {}
        this = bench.send(RoundKind.DIRTY)
        assert bench.rounds.acknowledged(this, 1.0).dirty_pages_after == 0

    def test_rates_are_of_the_time_that_they_belong_to(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # A round begins, has collected its pages, is acknowledged.
        seconds = iter([10.0, 10.1, 10.5, 11.0, 11.5, 13.5])
        clock = (int(each * 1e9) for each in seconds)
        monkeypatch.setattr(
            "pageferry.source_agent.precopy.rounds.time.monotonic_ns", lambda: next(clock)
        )
        this = bench.send(RoundKind.FULL)
        bench.guest.log = {1, 2, 3}
        stats = bench.rounds.acknowledged(this, 1.0)
        assert (this.start_ns, this.end_ns) == (10_000_000_000, 10_500_000_000)
        assert stats.duration_s == pytest.approx(0.5)
        assert stats.dirty_rate_Bps == pytest.approx(3 * PAGE_SIZE / 0.5)
        assert stats.bandwidth_Bps == RATE  # too few bytes to say
        bench.page_sender.size = MEASURABLE_BYTES
        stats = bench.rounds.acknowledged(bench.send(RoundKind.DIRTY), 1.0)
        # Its bytes' own time: neither what came before its pages nor the way of its answer.
        assert stats.bandwidth_Bps == pytest.approx(MEASURABLE_BYTES / (2 - RTT_S - ROUND_S))

    def test_a_round_logs_its_start_and_its_end(self, bench: Bench) -> None:
        bench.full()
        assert [event.event for event in bench.timeline.events] == ["round-start", "round-end"]


class TestStop:
    def test_a_stop_pauses_drains_harvests_and_sends_in_this_order(self, bench: Bench) -> None:
        bench.full()
        bench.guest.cache = {5: 2}
        bench.guest.log = {1}
        final = bench.rounds.stop()
        assert bench.calls == ["pause", "drain", "harvest", "send", ("snapshot", True)]
        assert (final.downtime.paused_ns, final.missing) == (PAUSED_NS, None)
        assert final.snapshot == {"of": "the guest"}
        assert bench.page_sender.sent[1:] == [[1, 5]]
        this = final.round
        assert this is not None
        assert (this.index, this.kind, this.drained_lines) == (2, RoundKind.FINAL, 2)
        assert bench.rounds.done[-1] is this
        assert bench.rounds.pages_resent == 2
        assert bench.timeline.find("paused") == PAUSED_NS

    def test_with_no_round_before_it_sends_all(self, bench: Bench) -> None:
        bench.guest.log = {1}
        bench.rounds.stop()
        assert bench.page_sender.sent == [ALL]
        assert bench.page_sender.indices == [1]
        assert bench.rounds.pages_resent == 0

    def test_what_was_counted_is_sent(self, bench: Bench) -> None:
        """Pages that the last acknowledgement took out of the log are not lost."""
        this = bench.send(RoundKind.FULL)
        bench.guest.log = {4, 6}
        bench.rounds.acknowledged(this, 1.0)
        bench.guest.log = {7}
        bench.rounds.stop()
        assert bench.page_sender.sent[-1] == [4, 6, 7]


class TestCutShort:
    """A round that ends before all of it was sent: the rest is stale as it was."""

    def test_of_the_first_round_the_rest_is_sent_whole_in_the_stop(self, bench: Bench) -> None:
        bench.page_sender.left = RoundPages(np.arange(10, N_PAGES))
        first = bench.send(RoundKind.FULL)
        assert first.pages_left == N_PAGES - 10
        bench.page_sender.left = RoundPages(np.empty(0, np.int64))
        stats = bench.rounds.acknowledged(first, 1.0)
        assert stats.dirty_pages_after == N_PAGES - 10
        assert stats.dirty_rate_Bps == 0
        bench.guest.log = {3}
        final = bench.rounds.stop().round
        assert final is not None
        assert bench.page_sender.sent[-1] == [3, *range(10, N_PAGES)]
        assert bench.rounds.pages_resent == 1

    def test_what_was_left_is_missing_after_a_switch(self, bench: Bench) -> None:
        bench.page_sender.left = RoundPages(np.array([5, 7]))
        bench.rounds.acknowledged(bench.send(RoundKind.FULL), 1.0)
        assert missing_pages(bench.rounds.switch().missing) == [5, 7]
        assert bench.rounds.pages_resent == 0

    def test_lines_that_were_left_go_as_lines(self) -> None:
        bench = Bench(by_line=True)
        bench.full()
        bench.guest.log = {8, 9}
        bench.page_sender.left = RoundPages(
            np.empty(0, np.int64), np.array([9]), np.array([1], np.uint64)
        )
        bench.send(RoundKind.DIRTY)
        bench.page_sender.left = RoundPages(np.empty(0, np.int64))
        bench.rounds.stop()
        assert list(bench.page_sender.lined[-1]) == [9]
        assert bench.page_sender.lined[-1][9] & 1


def missing_pages(missing: bytes | None) -> list[int]:
    assert missing is not None
    return np.flatnonzero(bitmap.unpack(missing, N_PAGES)).tolist()


class TestSwitch:
    def test_before_any_round_everything_is_missing(self, bench: Bench) -> None:
        bench.guest.log = {3}
        final = bench.rounds.switch()
        assert missing_pages(final.missing) == ALL
        assert (bench.page_sender.sent, bench.rounds.pages_resent) == ([], 0)

    def test_stale_in_the_log_or_the_cache_or_since_the_last_count(self, bench: Bench) -> None:
        this = bench.send(RoundKind.FULL)
        bench.guest.log = {0, 9}
        bench.rounds.acknowledged(this, 1.0)
        bench.guest.log = {9, 20}
        bench.guest.cache = {13: 1, 20: 64}
        final = bench.rounds.switch()
        assert missing_pages(final.missing) == [0, 9, 13, 20]
        assert bench.rounds.pages_resent == 4
        assert (final.round, final.downtime.paused_ns) == (None, PAUSED_NS)

    def test_pages_that_never_went_are_missing_at_a_switch(self, bench: Bench) -> None:
        bench.guest.log = {2, 3}
        bench.rounds.acknowledged(bench.send(RoundKind.DIRTY), 1.0)
        bench.guest.log = {3}
        final = bench.rounds.switch()
        assert missing_pages(final.missing) == [page for page in ALL if page != 2]
        assert bench.rounds.pages_resent == 1

    def test_nothing_is_missing_after_a_full_round_without_writes(self, bench: Bench) -> None:
        bench.full()
        assert missing_pages(bench.rounds.switch().missing) == []

    def test_a_switch_pauses_and_harvests_and_drains_only_later(self, bench: Bench) -> None:
        bench.full()
        bench.rounds.switch()
        assert bench.calls == ["pause", "cached_dirty", "harvest", ("snapshot", False)]
        bench.calls.clear()
        bench.rounds.flush()
        assert bench.calls == ["drain", "harvest"]


class TestUnfinished:
    def test_what_a_round_had_sent_that_broke(self, bench: Bench) -> None:
        bench.page_sender.breaks = True
        with pytest.raises(ConnectionBroken):
            bench.send(RoundKind.FULL)
        assert bench.rounds.unfinished == bench.page_sender.moved

    def test_a_round_is_under_way_until_its_end_is_known(self, bench: Bench) -> None:
        this = bench.send(RoundKind.FULL)
        assert bench.rounds.unfinished == this.totals
        bench.rounds.acknowledged(this, 1.0)
        assert bench.rounds.unfinished == SentTotals()
