"""Batches of pages made shorter before they are sent: by delta, by compression, or by both.

A batch is copied first, so that what is encoded is one state of its pages; its dirty marks were
taken before that, as always. It is made on a pool of threads, whose work (copying, encoding,
compressing, summing) holds no interpreter lock; each channel sends its batches in the order in
which it took them, and its barrier after the last.

A page's delta is made against what the destination has of it, which is what a round before this one
sent: in one round a page travels once, and the rounds' barriers keep rounds apart on all channels.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.capacity.agents import squeeze_workers
from pageferry.common.guest import delta
from pageferry.common.guest.lines import gather
from pageferry.common.guest.memory import GuestMemory
from pageferry.common.timeline import Timeline
from pageferry.common.units import LINE_SIZE, PAGE_SIZE
from pageferry.common.wire import frames
from pageferry.common.wire.deltas import DELTA_OF, DeltaTable
from pageferry.common.wire.extents import EXTENT, Extents, Pages, from_pages, to_pages
from pageferry.common.wire.frames import FrameType
from pageferry.common.wire.packing import Codec, Pack, packer
from pageferry.common.wire.squeezed import encode_delta_head, encode_packed_head
from pageferry.source_agent.precopy.compression_backoff import SAMPLE_BYTES, Gate, pays
from pageferry.source_agent.precopy.page_sender import BATCH_PAGES, Tally

_WORDS: Final = frames.MAX_FRAME_LINES * LINE_SIZE // 8  # of a batch: 1 MiB, by page or by line

Parts = Sequence[bytes | memoryview]


@dataclass(frozen=True, slots=True)
class CompressionStats:
    """Payloads of pages and lines: their bytes before and after, what did not shrink included.

    batches: of them; in_vain: those that were tried and did not become shorter; skipped: those that
    were not tried, because it had turned itself off. cpu_s: what compressing cost.
    """

    raw_bytes: int = 0
    bytes: int = 0
    batches: int = 0
    in_vain: int = 0
    skipped: int = 0
    cpu_s: float = 0.0


@dataclass(frozen=True, slots=True)
class DeltaStats:
    """pages: that went as a delta, which took `bytes`; hits and misses of the cache; overflows: a

    delta was longer than what it stands for. cpu_s: what looking and encoding cost.
    """

    pages: int = 0
    bytes: int = 0
    hits: int = 0
    misses: int = 0
    overflows: int = 0
    cpu_s: float = 0.0

    def plus(
        self, table: DeltaTable, size: int, counters: NDArray[np.int64], cpu_s: float
    ) -> DeltaStats:
        """With a frame of deltas, and what `delta.encode` counted."""
        hits, misses, overflows = counters.tolist()
        return DeltaStats(
            self.pages + len(table),
            self.bytes + table.nbytes + size,
            self.hits + hits,
            self.misses + misses,
            self.overflows + overflows,
            self.cpu_s + cpu_s,
        )


@dataclass(slots=True)
class Packet:
    """What is to be sent of one batch. frames: each as its buffers; tally: but for the bytes."""

    frames: list[Parts] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)


class _Bench:
    """Memory for one batch at a time, until it has been sent."""

    def __init__(self, with_deltas: bool) -> None:
        self.words = np.zeros(_WORDS, np.uint64)
        self.bytes = self.words.view(np.uint8)
        self.out = np.zeros(self.bytes.nbytes if with_deltas else 0, np.uint8)
        self.pack: Pack | None = None


class Squeezer:
    """Makes batches shorter; one for a session, whatever becomes of its connections.

    codec: None: no compression. delta_cache: bytes; 0: no deltas. Made before the first round: it
    takes memory and compiles.
    """

    def __init__(
        self,
        memory: GuestMemory,
        timeline: Timeline,
        *,
        codec: Codec | None = None,
        delta_cache: int = 0,
        checked: bool = False,
    ) -> None:
        self._memory = memory
        self._timeline = timeline
        self._codec = codec
        self._checked = checked
        self.workers: Final = squeeze_workers()
        self._threads = ThreadPoolExecutor(self.workers, thread_name_prefix="squeeze")
        self._gate = Gate(self._switched)
        self._lock = threading.Lock()
        self._benches: dict[int, list[_Bench]] = {}
        self._encoding = threading.Lock()
        self._cache = delta.new_cache(delta_cache, memory.n_pages) if delta_cache else None
        self.cache_size: Final = 0 if self._cache is None else self._cache.words.nbytes
        self._roomy = self._cache is not None and len(self._cache.pages) == memory.n_pages
        self._likely: NDArray[np.bool_] = np.ones(memory.n_pages if delta_cache else 0, np.bool_)
        self._round = 0
        self._last = False
        self._pushing = self._new_bench()
        self.cpu_s = 0.0  # of all batches of rounds
        self.compression = CompressionStats()
        self.deltas = DeltaStats()
        self._warm_up()

    def _warm_up(self) -> None:
        """Compile: not within a round."""
        gather(self._memory.words, *_nothing(), self._pushing.words)
        if self._cache is not None:
            self._encode(Packet(), self._pushing, *_nothing())

    def begin(self, index: int, likely: NDArray[np.bool_] | None, *, last: bool) -> None:
        """A round begins. likely: bool[n_pages], pages that may have to be sent again.

        None: all of those that this round sends. last: nothing is sent again after it.
        """
        self._round, self._last = index, last
        if self._cache is not None:
            self._likely[:] = True if likely is None else likely

    def convey(
        self,
        channel: int,
        take: Callable[[], NDArray[np.void] | None],
        send: Callable[[Parts], int],
        tell: Callable[[Tally], None] = lambda _: None,
    ) -> Tally:
        """Batches from `take` until it gives None, each sent by `send`, in order; `tell` is told.

        Several are made while one is sent. Blocks; raises what `send` does, and no thread of the
        pool is then at work for this channel.
        """
        benches = self._benches.setdefault(
            channel, [self._new_bench() for _ in range(self.workers + 1)]
        )
        going: deque[Future[Packet]] = deque()
        total, turn = Tally(), 0
        try:
            while True:
                while len(going) < len(benches) and (batch := take()) is not None:
                    bench = benches[turn % len(benches)]  # whose batch was sent the longest ago
                    going.append(self._threads.submit(self._make, batch, bench))
                    turn += 1
                if not going:
                    return total
                packet = going.popleft().result()
                sent = packet.tally + Tally(bytes=sum(map(send, packet.frames)))
                tell(sent)
                total += sent
        finally:
            wait(going)

    def push(self, pages: Pages) -> Packet:
        """The packet of some pages (at most `BATCH_PAGES`) outside any round: never by delta.

        Valid until the next call.
        """
        packet = Packet()
        self._whole(packet, self._pushing, from_pages(pages))
        return packet

    def close(self) -> None:
        """When no channel is at work any more; idempotent. What was counted stays."""
        self._threads.shutdown(wait=True)
        self._benches.clear()
        self._cache = None

    # -- one batch --------------------------------------------------------------------------------

    def _new_bench(self) -> _Bench:
        bench = _Bench(self._cache is not None)
        if self._codec is not None:
            bench.pack = packer(self._codec)
        return bench

    def _make(self, batch: NDArray[np.void], bench: _Bench) -> Packet:
        started = time.thread_time()
        packet = Packet()
        if batch.dtype == frames.LINES_OF:
            self._lined(packet, bench, batch)
        elif self._cache is None:
            self._whole(packet, bench, batch)
        else:
            self._against_cache(packet, bench, batch)
        with self._lock:
            self.cpu_s += time.thread_time() - started
        return packet

    def _whole(self, packet: Packet, bench: _Bench, extents: Extents) -> None:
        """Zero pages as marks, the others copied."""
        numbers = to_pages(extents)
        zero = self._memory.zero_pages(numbers)
        full = numbers[~zero]
        self._put_zeros(packet, numbers[zero])
        self._copy(bench, full)
        self._put_pages(packet, bench, full)

    def _copy(self, bench: _Bench, numbers: Pages) -> None:
        out = bench.words.reshape(BATCH_PAGES, PAGE_SIZE // 8)[: len(numbers)]
        np.take(self._memory.pages, numbers, axis=0, out=out, mode="clip")

    def _against_cache(self, packet: Packet, bench: _Bench, extents: Extents) -> None:
        """Whole pages, by delta where the cache has them."""
        numbers = to_pages(extents)
        masks = np.full(len(numbers), delta.EVERY_LINE, np.uint64)
        fates = self._encode(packet, bench, numbers, masks)
        self._put_zeros(packet, numbers[fates == delta.ZERO])
        self._put_pages(packet, bench, numbers[fates == delta.WHOLE])

    def _lined(self, packet: Packet, bench: _Bench, table: frames.LineTable) -> None:
        """Changed lines, by delta where that is shorter."""
        numbers, masks = table["page"].astype(np.int64), table["mask"].astype(np.uint64)
        if self._cache is None:
            gather(self._memory.words, numbers, masks, bench.words)
        else:
            table = table[self._encode(packet, bench, numbers, masks) == delta.WHOLE]
        if len(table) == 0:
            return
        lines = frames.count_lines(table)
        size = lines * LINE_SIZE
        self._put(packet, FrameType.LINES, table, bench, size)
        saved = len(table) * (PAGE_SIZE + EXTENT.itemsize) - table.nbytes - size
        packet.tally += Tally(len(table), 0, 0, len(table), lines, saved)

    def _encode(
        self, packet: Packet, bench: _Bench, pages: Pages, masks: NDArray[np.uint64]
    ) -> NDArray[np.uint8]:
        """What becomes of the pages; those that go as a delta are in the packet."""
        assert self._cache is not None  # noqa: S101 - who calls has asked
        batch = _batch_of(bench, pages, masks)
        counters = np.zeros(delta.COUNTERS, np.int64)
        started = time.thread_time()
        # A page of another batch may have the same slot, unless there is one for each.
        with contextlib.nullcontext() if self._roomy else self._encoding:
            size = delta.encode(
                self._memory.words,
                self._cache,
                batch,
                self._round,
                self._likely,
                not self._last,
                counters,
            )
        by_delta = batch.fates == delta.DELTA
        table = np.empty(int(np.count_nonzero(by_delta)), DELTA_OF)
        table["page"], table["length"] = pages[by_delta], batch.lengths[by_delta]
        if len(table):
            head = encode_delta_head(table, checked=self._checked)
            self._finish(packet, head, bench.out.data[:size])
            packet.tally += Tally(len(table), delta_pages=len(table))
        spent = time.thread_time() - started
        with self._lock:
            self.deltas = self.deltas.plus(table, size, counters, spent)
        return batch.fates

    # -- its frames -------------------------------------------------------------------------------

    def _put_zeros(self, packet: Packet, pages: Pages) -> None:
        if len(pages):
            packet.frames.append([frames.encode_zero(from_pages(pages), checked=self._checked)])
            packet.tally += Tally(zero_pages=len(pages))

    def _put_pages(self, packet: Packet, bench: _Bench, pages: Pages) -> None:
        """These pages' content is at the front of the bench."""
        if len(pages):
            self._put(packet, FrameType.PAGES, from_pages(pages), bench, len(pages) * PAGE_SIZE)
            packet.tally += Tally(len(pages))

    def _put(
        self,
        packet: Packet,
        kind: FrameType,
        table: Extents | frames.LineTable,
        bench: _Bench,
        size: int,
    ) -> None:
        """A frame of what is at the front of the bench, compressed where that pays."""
        data = bench.bytes.data[:size]
        packed = self._compressed(bench, data)
        if packed is not None and self._codec is not None:
            head = encode_packed_head(self._codec, kind, table, len(packed), checked=self._checked)
            self._finish(packet, head, packed)
        elif kind is FrameType.LINES:
            self._finish(packet, frames.encode_lines_head(table, checked=self._checked), data)
        else:
            self._finish(packet, frames.encode_pages_head(table, checked=self._checked), data)

    def _compressed(self, bench: _Bench, data: memoryview) -> bytes | None:
        """None where it goes as it is."""
        if bench.pack is None:
            return None
        judged = len(data) >= SAMPLE_BYTES
        if not (self._gate.admits() if judged else self._gate.on):
            self._count(len(data), len(data), skipped=1)
            return None
        started = time.thread_time()
        packed = bench.pack(data)
        spent = time.thread_time() - started
        paid = pays(len(data), len(packed))
        if judged:
            self._gate.told(paid)
        size = len(packed) if paid else len(data)
        self._count(len(data), size, in_vain=not paid, cpu_s=spent)
        return packed if paid else None

    def _count(
        self, raw: int, size: int, *, in_vain: int = 0, skipped: int = 0, cpu_s: float = 0.0
    ) -> None:
        with self._lock:
            before = self.compression
            self.compression = CompressionStats(
                before.raw_bytes + raw,
                before.bytes + size,
                before.batches + 1,
                before.in_vain + in_vain,
                before.skipped + skipped,
                before.cpu_s + cpu_s,
            )

    def _finish(self, packet: Packet, *parts: bytes | memoryview) -> None:
        packet.frames.append([*parts, frames.trailer(*parts)] if self._checked else parts)

    def _switched(self, on: bool) -> None:
        stats = self.compression
        self._timeline.log(
            "compression-on" if on else "compression-off",
            batches=stats.batches,
            raw_bytes=stats.raw_bytes,
            bytes=stats.bytes,
        )


def _nothing() -> tuple[Pages, NDArray[np.uint64]]:
    return np.empty(0, np.int64), np.empty(0, np.uint64)


def _batch_of(bench: _Bench, pages: Pages, masks: NDArray[np.uint64]) -> delta.Batch:
    n = len(pages)
    return delta.Batch(
        pages,
        masks,
        bench.words,
        bench.bytes,
        np.zeros(n, np.uint8),
        np.zeros(n, np.int64),
        bench.out,
    )
