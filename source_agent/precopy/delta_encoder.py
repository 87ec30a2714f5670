"""Pages as deltas against what the destination has of them, and what that has cost.

What the destination has is what an earlier round sent: in one round a page travels once, and the
rounds' barriers keep rounds apart on all channels.
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

_WORDS: Final = frames.MAX_FRAME_LINES * LINE_SIZE // 8  # per batch: 1 MiB, by page or by line


@dataclass(frozen=True, slots=True)
class DeltaStats:
    """What became of pages that were looked up in the cache.

    Attributes:
        pages: Pages that went as a delta.
        bytes: What those took, with their entries in the table.
        hits: Pages with content that were in the cache.
        misses: Pages with content that were not.
        overflows: Deltas that were longer than what they stand for.
        cpu_s: CPU seconds that looking and encoding cost.
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
        """Return these counts with a batch added.

        Args:
            table: DELTA_OF[m], the pages that go as a delta.
            size: Bytes of their encodings.
            counters: int64[COUNTERS], as `delta.encode_batch` counted.
            cpu_s: CPU seconds that the batch took.

        Returns:
            The new counts.
        """
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

    Args:
        deltas: Whether pages may go as a delta.
        pack: What compresses them; None: nothing does.

    Attributes:
        words: uint64, pages or lines side by side.
        bytes: The same memory as uint8.
        out: uint8, encodings of deltas side by side; empty without deltas.
        pack: What compresses them; None: nothing does.
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
        fates: uint8[n], `delta.WHOLE`, `DELTA` or `ZERO` for each; the content of the whole ones is
            side by side in the batch's buffers.
        table: DELTA_OF[m], of those that go as a delta.
        data: Their encodings, in the buffers.
    """

    fates: NDArray[np.uint8]
    table: DeltaTable
    data: memoryview


class DeltaEncoder:
    """Remembers what the destination has, and encodes what has changed; for several threads.

    It takes its memory when it is made.

    Args:
        memory: Of the guest; read by `encode`.
        cache_size: Bytes of old pages to keep, at most as many as the guest has.

    Attributes:
        stats: What deltas have done so far.
        cache_size: Bytes of old pages that it can keep.
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
        """Begin a round, while nobody encodes; see `CompressingEncoder.begin`.

        Args:
            index: The round's number, counted from 1.
            likely: bool[n_pages], pages that the cache prefers, as they may have to be sent again;
                None: all. It is copied.
            last: Whether nothing need be kept.
        """
        self._round, self._last = index, last
        self._likely[:] = True if likely is None else likely

    def encode(self, buffers: BatchBuffers, pages: Pages, masks: LineMasks) -> Deltas:
        """Sort the pages of a batch by what becomes of them, and encode those that go as a delta.

        Args:
            buffers: Overwritten; the result refers to them.
            pages: int64[n], sorted.
            masks: uint64[n], the lines of each page that may differ.

        Returns:
            What becomes of each page, valid until the buffers are used again.
        """
        assert self._cache is not None  # noqa: S101 - nobody encodes after `close`
        n = len(pages)
        fates, lengths = np.zeros(n, np.uint8), np.zeros(n, np.int64)
        batch = delta.DeltaBatch(
            pages, masks, buffers.words, buffers.bytes, fates, lengths, buffers.out
        )
        counters = np.zeros(delta.COUNTERS, np.int64)
        started = time.thread_time()
        # A page of another batch may have the same slot, unless there is one for each.
        with contextlib.nullcontext() if self._roomy else self._encoding:
            size = delta.encode_batch(
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
