"""Batches made shorter: in order, exact, and counted."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from pageferry.common.errors import ConnectionBroken
from pageferry.common.guest.memory import GuestMemory
from pageferry.common.timeline import Timeline
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire import decoder
from pageferry.common.wire.extents import Pages
from pageferry.common.wire.frames import DeltaFrame, LinesFrame, PagesFrame, ZeroFrame
from pageferry.common.wire.packing import Codec
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.dest_agent.precopy.page_placer import GuestPlacer
from pageferry.source_agent.precopy.batch_encoder import Buffers, OutgoingFrame, PagesInMemory
from pageferry.source_agent.precopy.batches import (
    BATCH_PAGES,
    Batch,
    RoundPages,
    SentTotals,
    WholePages,
    cut_into_batches,
    line_batches,
)
from pageferry.source_agent.precopy.compressing_encoder import CompressingEncoder
from tests.unit.common.wire.test_decoder import feed

N_PAGES = 6 * BATCH_PAGES
ALL = np.arange(N_PAGES)
Make = Callable[..., "Ends"]


def whole(pages: Pages) -> Iterator[Batch]:
    return cut_into_batches(RoundPages(pages), most=BATCH_PAGES)


def as_buffers(frame: OutgoingFrame) -> Buffers:
    assert not isinstance(frame, PagesInMemory)
    return frame


class Ends:
    """An encoder, and a destination that takes what it sends."""

    def __init__(self, entropy: float, checked: bool, codec: Codec | None, cache: int) -> None:
        self.memory = GuestMemory(N_PAGES * PAGE_SIZE)
        self.memory.fill(3, 0.1, entropy)
        self.there = GuestMemory(N_PAGES * PAGE_SIZE)
        self.placer = GuestPlacer(self.there, deltas=cache > 0).channel()
        self.timeline = Timeline("source")
        stream = StreamFormat(checksum=checked, codec=codec, deltas=cache > 0)
        self.encoder = CompressingEncoder(self.memory, self.timeline, stream, delta_cache=cache)
        self._decoder = decoder.FrameDecoder(self.placer, stream=stream, n_pages=N_PAGES)
        self.kinds: list[str] = []
        self.round = 0

    def receive(self, parts: Buffers) -> int:
        data = b"".join(parts)
        for frame in feed(self._decoder, data, []):
            self.kinds.append(type(frame).__name__)
            if isinstance(frame, PagesFrame):
                self.placer.arrived(frame)
            elif isinstance(frame, ZeroFrame):
                self.placer.zero(frame)
            elif isinstance(frame, LinesFrame):
                self.placer.lines(frame)
            elif isinstance(frame, DeltaFrame):
                self.placer.delta(frame)
        return len(data)

    def send(self, work: Iterator[Batch], *, last: bool = False) -> SentTotals:
        self.round += 1
        self.encoder.begin(self.round, None, last=last)
        return self.send_all(0, work, self.receive)

    def send_all(
        self, channel: int, work: Iterator[Batch], send: Callable[[Buffers], int]
    ) -> SentTotals:
        """As a `PageSender` does it."""
        total = SentTotals()
        with contextlib.closing(self.encoder.encode_all(channel, work)) as encoded:
            for batch in encoded:
                sent = sum(send(as_buffers(frame)) for frame in batch.frames)
                total += batch.totals + SentTotals(bytes=sent)
        return total

    def send_pages(self, pages: Pages) -> SentTotals:
        return self.send(whole(pages))

    def check(self) -> None:
        np.testing.assert_array_equal(self.there.words, self.memory.words)

    def close(self) -> None:
        self.encoder.close()
        self.memory.close()
        self.there.close()


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Ends] = []

    def build(
        entropy: float = 0.25,
        *,
        checked: bool = True,
        codec: Codec | None = None,
        cache: int = 0,
    ) -> Ends:
        made.append(Ends(entropy, checked, codec, cache))
        return made[-1]

    yield build
    for ends in made:
        ends.close()


@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize("codec", list(Codec))
def test_pages_that_compress_are_sent_packed(make: Make, codec: Codec, checked: bool) -> None:
    ends = make(codec=codec, checked=checked)
    totals = ends.send_pages(ALL)
    ends.check()
    zero = int(ends.memory.zero_pages(ALL).sum())
    assert (totals.pages, totals.zero_pages) == (N_PAGES - zero, zero)
    stats = ends.encoder.compression
    assert stats.raw_bytes == (N_PAGES - zero) * PAGE_SIZE
    assert stats.bytes < 0.3 * stats.raw_bytes
    assert stats.bytes < totals.bytes < 1.05 * stats.bytes
    assert (stats.batches, stats.in_vain, stats.skipped) == (6, 0, 0)


def test_pages_that_do_not_compress(make: Make) -> None:
    ends = make(1.0, codec=Codec.LZ4)
    for _ in range(3):
        ends.send_pages(ALL)
    ends.check()
    stats = ends.encoder.compression
    assert stats.bytes == stats.raw_bytes
    assert stats.batches == 18
    assert stats.in_vain + stats.skipped == 18
    assert stats.skipped >= 18 - 8 - ends.encoder.workers - 1
    events = [event.event for event in ends.timeline.events]
    assert events == ["compression-off"]


def test_a_few_pages_that_do_not_compress_say_nothing_of_the_others(make: Make) -> None:
    ends = make(1.0, codec=Codec.ZSTD)
    full = ALL[~ends.memory.zero_pages(ALL)]
    for page in full[:12]:
        ends.send_pages(np.array([page]))
    assert ends.timeline.events == []
    stats = ends.encoder.compression
    assert (stats.batches, stats.in_vain, stats.skipped) == (12, 12, 0)
    for _ in range(2):
        ends.send_pages(ALL)
    ends.send_pages(full[:1])  # it is off now, for all
    assert ends.encoder.compression.skipped > stats.skipped
    ends.check()


def test_pages_that_were_sent_before_go_as_deltas(make: Make) -> None:
    ends = make(1.0, cache=N_PAGES * PAGE_SIZE)
    first = ends.send_pages(ALL)
    assert first.delta_pages == 0
    ends.memory.pages[:, 77] += np.uint64(5)
    second = ends.send_pages(ALL)
    ends.check()
    assert second.pages == N_PAGES
    assert second.delta_pages == N_PAGES  # those that had been zero, too
    stats = ends.encoder.deltas
    assert (stats.hits, stats.pages, stats.overflows) == (N_PAGES, N_PAGES, 0)
    assert stats.misses == first.pages
    # A record of 6 bytes, two counts of 2 and 1; the word's lowest byte, or one more for a carry.
    assert 10 * N_PAGES <= stats.bytes < 10.1 * N_PAGES


@pytest.mark.parametrize("codec", [None, Codec.ZSTD])
@pytest.mark.parametrize("slots", [N_PAGES // 3, N_PAGES])
def test_lines_and_deltas_and_both(make: Make, slots: int, codec: Codec | None) -> None:
    ends = make(0.5, codec=codec, cache=slots * PAGE_SIZE)
    ends.send_pages(ALL)
    rng = np.random.default_rng(1)
    for _ in range(4):
        lined = np.sort(rng.choice(N_PAGES, N_PAGES // 2, replace=False))
        lines = rng.integers(0, 64, len(lined))
        ends.memory.pages[lined, 8 * lines] += np.uint64(1 << 40)
        masks = np.uint64(1) << lines.astype(np.uint64) | np.uint64(1 << 9)
        round_pages = RoundPages(ALL[:0], lined, masks)
        totals = ends.send(line_batches(round_pages))
        ends.check()
        assert totals.pages == len(lined)
        assert totals.delta_pages + totals.line_pages == len(lined)
        assert totals.delta_pages > 0
    assert {"PagesFrame", "ZeroFrame", "DeltaFrame"} <= set(ends.kinds)
    assert ("LinesFrame" in ends.kinds) == (slots < N_PAGES)


def test_batches_are_sent_in_the_order_in_which_they_were_taken(make: Make) -> None:
    ends = make(codec=Codec.ZSTD)
    seen: list[int] = []
    order = np.random.default_rng(2).permutation(48)
    work = iter([WholePages(np.arange(5 * first, 5 * first + 3)) for first in order])

    def look(parts: Buffers) -> int:
        seen.append(int.from_bytes(bytes(parts[0])[16:20], "little"))
        return 1

    full = ~ends.memory.zero_pages(ALL)
    ends.send_all(0, work, look)
    assert [first // 5 for first in seen if full[first] and first % 5 == 0] == [
        at for at in order if full[5 * at]
    ]


def test_a_send_that_fails_leaves_nobody_at_work(make: Make) -> None:
    ends = make(codec=Codec.ZSTD)
    work = whole(ALL)

    def broken(_: Buffers) -> int:
        raise ConnectionBroken("a bulk connection broke")

    with pytest.raises(ConnectionBroken):
        ends.send_all(0, work, broken)
    left = len(list(work))
    assert left == 6 - min(6, ends.encoder.workers + 1)  # no more than those that were begun


def test_two_channels_at_once(make: Make) -> None:
    ends = make(1.0, cache=N_PAGES * PAGE_SIZE // 2)
    lock = threading.Lock()
    for turn in range(3):
        ends.memory.pages[:, turn] += np.uint64(3)
        ends.encoder.begin(turn + 1, None, last=turn == 2)
        work = whole(ALL)

        def take(work: Iterator[Batch] = work) -> Batch | None:
            with lock:
                return next(work, None)

        def send(parts: Buffers) -> int:
            with lock:
                return ends.receive(parts)

        threads = [
            threading.Thread(target=ends.send_all, args=(channel, iter(take, None), send))
            for channel in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ends.check()
    assert ends.encoder.deltas.pages > 0


def test_a_push_never_goes_as_a_delta(make: Make) -> None:
    ends = make(codec=Codec.LZ4, cache=N_PAGES * PAGE_SIZE)
    ends.send_pages(ALL)
    ends.kinds.clear()
    encoded = ends.encoder.encode(WholePages(ALL[:64]))
    for frame in encoded.frames:
        ends.receive(as_buffers(frame))
    assert set(ends.kinds) == {"PagesFrame", "ZeroFrame"}
    assert encoded.totals.pages + encoded.totals.zero_pages == 64


def test_what_is_unlikely_to_go_again_is_kept_while_there_is_room(make: Make) -> None:
    ends = make(1.0, cache=PAGE_SIZE * N_PAGES // 2)
    likely = np.zeros(N_PAGES, np.bool_)
    likely[N_PAGES // 2 :] = True
    work = whole(ALL)
    ends.encoder.begin(1, likely, last=False)
    ends.send_all(0, work, ends.receive)
    ends.round = 1
    full = int((~ends.memory.zero_pages(ALL[N_PAGES // 2 :])).sum())
    assert ends.send_pages(ALL[N_PAGES // 2 :]).delta_pages == full
    ends.check()
