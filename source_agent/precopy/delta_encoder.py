"""Pages as deltas against what the destination has of them, and what that has cost.

What it has is what a round before this one sent: in one round a page travels once, and the rounds'
barriers keep rounds apart on all channels.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.guest import delta
from pageferry.common.guest.memory import GuestMemory
from pageferry.common.units import LINE_SIZE
from pageferry.common.wire import frames
from pageferry.common.wire.deltas import DELTA_OF, DeltaTable
from pageferry.common.wire.extents import Pages
from pageferry.common.wire.packing import Pack
from pageferry.source_agent.precopy.batches import LineMasks

_WORDS: Final = frames.MAX_FRAME_LINES * LINE_SIZE // 8  # of a batch: 1 MiB, by page or by line


@dataclass(frozen=True, slots=True)
class DeltaStats:
    """What became of pages that were looked up in the cache.

    Attributes:
        pages: that went as a delta.
        bytes: what those took.
        hits, misses: of the cache.
        overflows: deltas that were longer than what they stand for.
        cpu_s: what looking and encoding cost.
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
        """Add a frame of deltas, and what `delta.encode` counted."""
        hits, misses, overflows = counters.tolist()
        return DeltaStats(
            self.pages + len(table),
            self.bytes + table.nbytes + size,
            self.hits + hits,
            self.misses + misses,
            self.overflows + overflows,
            self.cpu_s + cpu_s,
        )


class BatchBuffers:
    """Memory for one batch at a time, until it has been sent.

    Attributes:
        words, bytes: the same memory, uint64 and uint8: pages or lines side by side.
        out: uint8, encodings of deltas side by side; empty without deltas.
        pack: what compresses them; None: nothing does.
    """

    def __init__(self, *, deltas: bool, pack: Pack | None) -> None:
        self.words = np.zeros(_WORDS, np.uint64)
        self.bytes = self.words.view(np.uint8)
        self.out = np.zeros(self.bytes.nbytes if deltas else 0, np.uint8)
        self.pack = pack


@dataclass(frozen=True, slots=True)
class Deltas:
    """What became of the pages of a batch.

    Attributes:
        fates: uint8[n], `delta.WHOLE`, `DELTA` or `ZERO` for each; the content of those that are
            whole is side by side in the batch's buffers.
        table: DELTA_OF[m], of those that go as a delta.
        data: their encodings, in the buffers.
    """

    fates: NDArray[np.uint8]
    table: DeltaTable
    data: memoryview


class DeltaEncoder:
    """Remembers what the destination has, and encodes what has changed; for several threads.

    Takes its memory and compiles when it is made.

    Attributes:
        stats: so far.
        cache_size: bytes of pages that it remembers.
    """

    def __init__(self, memory: GuestMemory, cache_size: int) -> None:
        self._memory = memory
        self._cache: delta.PageCache | None = delta.new_cache(cache_size, memory.n_pages)
        self.cache_size: Final = self._cache.words.nbytes
        self._roomy = len(self._cache.pages) == memory.n_pages
        self._likely: NDArray[np.bool_] = np.ones(memory.n_pages, np.bool_)
        self._round = 0
        self._last = False
        self._encoding = threading.Lock()
        self._lock = threading.Lock()
        self.stats = DeltaStats()

    def begin(self, index: int, likely: NDArray[np.bool_] | None, *, last: bool) -> None:
        """Begin a round: see `CompressingEncoder.begin`."""
        self._round, self._last = index, last
        self._likely[:] = True if likely is None else likely

    def encode(self, buffers: BatchBuffers, pages: Pages, masks: LineMasks) -> Deltas:
        """Sort a batch by what becomes of its pages. masks: uint64[n], lines that may differ."""
        assert self._cache is not None  # noqa: S101 - nobody encodes after `close`
        n = len(pages)
        fates, lengths = np.zeros(n, np.uint8), np.zeros(n, np.int64)
        batch = delta.Batch(pages, masks, buffers.words, buffers.bytes, fates, lengths, buffers.out)
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
        by_delta = fates == delta.DELTA
        table = np.empty(int(np.count_nonzero(by_delta)), DELTA_OF)
        table["page"], table["length"] = pages[by_delta], lengths[by_delta]
        spent = time.thread_time() - started
        with self._lock:
            self.stats = self.stats.plus(table, size, counters, spent)
        return Deltas(fates, table, buffers.out.data[:size])

    def close(self) -> None:
        """Give the cache back; idempotent. What was counted stays."""
        self._cache = None
