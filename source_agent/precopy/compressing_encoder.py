"""Batches of pages made shorter before they are sent: by delta, by compression, or by both.

A batch is copied first, so that one state of its pages is encoded; its dirty marks were taken
before that, as always. The work is done on a pool of threads, and none of it (copying, encoding,
compressing, summing) holds the interpreter lock. Each channel sends its batches in the order in
which it took them, and its barrier after the last.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.capacity.agents import encoder_workers
from pageferry.common.guest import delta
from pageferry.common.guest.lines import gather
from pageferry.common.guest.memory import GuestMemory
from pageferry.common.timeline import Timeline
from pageferry.common.units import LINE_SIZE, PAGE_SIZE
from pageferry.common.wire import encoder, frames
from pageferry.common.wire.encoder import encode_delta_head, encode_packed_head
from pageferry.common.wire.extents import Extents, Pages, from_pages
from pageferry.common.wire.frames import FrameType
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.source_agent.precopy.batch_encoder import Buffers, EncodedBatch, sealed
from pageferry.source_agent.precopy.batches import (
    BATCH_PAGES,
    Batch,
    ChangedLines,
    LineMasks,
    SentTotals,
)
from pageferry.source_agent.precopy.delta_encoder import BatchBuffers, DeltaEncoder, DeltaStats
from pageferry.source_agent.precopy.payload_compressor import CompressionStats, PayloadCompressor


class CompressingEncoder:
    """Makes batches shorter; there is one for a session, whatever becomes of its connections.

    Make it before the first round: it takes memory and compiles.

    Args:
        memory: Of the guest; read whenever a batch is encoded.
        timeline: Is told when compression turns itself off or on.
        stream: Says whether it compresses, makes deltas, and adds checksums.
        delta_cache: Bytes of old pages to keep for deltas.

    Attributes:
        workers: Threads of the pool.
        cpu_s: CPU seconds that all batches of rounds have taken on the pool.
    """

    most_pages = BATCH_PAGES

    def __init__(
        self,
        memory: GuestMemory,
        timeline: Timeline,
        stream: StreamFormat,
        *,
        delta_cache: int = 0,
    ) -> None:
        codec = stream.codec
        self._memory = memory
        self._checked = stream.checksum
        self.workers: Final = encoder_workers()
        self._threads = ThreadPoolExecutor(self.workers, thread_name_prefix="squeeze")
        self._compressor = None if codec is None else PayloadCompressor(codec, timeline)
        self._delta_encoder = DeltaEncoder(memory, delta_cache) if stream.deltas else None
        self._buffers: dict[int, list[BatchBuffers]] = {}
        self._own_buffers = self._new_buffers()
        self._lock = threading.Lock()
        self.cpu_s = 0.0  # of all batches of rounds
        self._warm_up()

    def _warm_up(self) -> None:
        """Compile now, not within a round."""
        nothing = np.empty(0, np.int64), np.empty(0, np.uint64)
        gather(self._memory.words, *nothing, self._own_buffers.words)
        if self._delta_encoder is not None:
            self._delta_encoder.encode(self._own_buffers, *nothing)

    @property
    def compression(self) -> CompressionStats:
        """What compression has done so far."""
        return CompressionStats() if self._compressor is None else self._compressor.stats

    @property
    def deltas(self) -> DeltaStats:
        """What deltas have done so far."""
        return DeltaStats() if self._delta_encoder is None else self._delta_encoder.stats

    @property
    def cache_size(self) -> int:
        """Bytes of old pages that are kept; 0 without deltas."""
        return 0 if self._delta_encoder is None else self._delta_encoder.cache_size

    def begin(self, index: int, likely: NDArray[np.bool_] | None, *, last: bool) -> None:
        """Begin a round.

        Args:
            index: Its number, counted from 1.
            likely: bool[n_pages], pages that may have to be sent again; None: any of those that
                this round sends.
            last: Whether nothing is sent again after it.
        """
        if self._delta_encoder is not None:
            self._delta_encoder.begin(index, likely, last=last)

    def encode_all(
        self, channel: int, batches: Iterator[Batch]
    ) -> Generator[EncodedBatch, None, None]:
        """Encode what a channel takes in one round, in order; several batches while one is sent.

        Args:
            channel: Which channel asks; it has buffers of its own.
            batches: At most `BATCH_PAGES` whole pages each; is read ahead of what is sent.

        Yields:
            Each batch's frames, valid until the next ones are asked for.
        """
        pool = self._buffers.setdefault(
            channel, [self._new_buffers() for _ in range(self.workers + 1)]
        )
        going: deque[Future[EncodedBatch]] = deque()
        turn = 0
        try:
            while True:
                while len(going) < len(pool) and (batch := next(batches, None)) is not None:
                    buffers = pool[turn % len(pool)]  # the one whose batch was sent longest ago
                    going.append(self._threads.submit(self._encode_on_pool, batch, buffers))
                    turn += 1
                if not going:
                    return
                yield going.popleft().result()
        finally:
            wait(going)

    def encode(self, batch: Batch) -> EncodedBatch:
        """Encode one batch outside any round, never by delta.

        Args:
            batch: At most `BATCH_PAGES` whole pages.

        Returns:
            Its frames, valid until the next call.
        """
        return self._encode(batch, self._own_buffers, None)

    def close(self) -> None:
        """End the pool and release memory, when no channel is at work any more; idempotent.

        What was counted stays.
        """
        self._threads.shutdown(wait=True)
        self._buffers.clear()
        if self._delta_encoder is not None:
            self._delta_encoder.close()

    # -- one batch --------------------------------------------------------------------------------

    def _new_buffers(self) -> BatchBuffers:
        pack = None if self._compressor is None else self._compressor.new_pack()
        return BatchBuffers(deltas=self._delta_encoder is not None, pack=pack)

    def _encode_on_pool(self, batch: Batch, buffers: BatchBuffers) -> EncodedBatch:
        started = time.thread_time()
        encoded = self._encode(batch, buffers, self._delta_encoder)
        with self._lock:
            self.cpu_s += time.thread_time() - started
        return encoded

    def _encode(
        self, batch: Batch, buffers: BatchBuffers, deltas: DeltaEncoder | None
    ) -> EncodedBatch:
        out = EncodedBatch()
        if isinstance(batch, ChangedLines):
            self._add_lines(out, batch, buffers, deltas)
            return out
        numbers = batch.numbers
        if deltas is None:
            zero = self._memory.zero_pages(numbers)
            full, zeros = numbers[~zero], numbers[zero]
            self._copy(buffers, full)
        else:
            masks = np.full(len(numbers), delta.EVERY_LINE, np.uint64)
            fates = self._add_deltas(out, buffers, deltas, numbers, masks)
            full, zeros = numbers[fates == delta.WHOLE], numbers[fates == delta.ZERO]
        out.add_zeros(zeros, checked=self._checked)
        if len(full):
            frame = self._frame(FrameType.PAGES, from_pages(full), buffers, len(full) * PAGE_SIZE)
            out.add(frame, SentTotals(len(full)))
        return out

    def _copy(self, buffers: BatchBuffers, numbers: Pages) -> None:
        out = buffers.words.reshape(BATCH_PAGES, PAGE_SIZE // 8)[: len(numbers)]
        np.take(self._memory.pages, numbers, axis=0, out=out, mode="clip")

    def _add_lines(
        self,
        out: EncodedBatch,
        batch: ChangedLines,
        buffers: BatchBuffers,
        deltas: DeltaEncoder | None,
    ) -> None:
        """Append changed lines, by delta where that is shorter."""
        table = batch.table
        if deltas is None:
            gather(self._memory.words, batch.numbers, batch.masks, buffers.words)
        else:
            fates = self._add_deltas(out, buffers, deltas, batch.numbers, batch.masks)
            table = table[fates == delta.WHOLE]
        if len(table):
            lines = frames.count_lines(table)
            frame = self._frame(FrameType.LINES, table, buffers, lines * LINE_SIZE)
            out.add(frame, SentTotals.by_line(len(table), lines))

    def _add_deltas(
        self,
        out: EncodedBatch,
        buffers: BatchBuffers,
        deltas: DeltaEncoder,
        pages: Pages,
        masks: LineMasks,
    ) -> NDArray[np.uint8]:
        """Append those pages that go as a delta; return what becomes of each."""
        made = deltas.encode(buffers, pages, masks)
        n = len(made.table)
        if n:
            head = encode_delta_head(made.table, checked=self._checked)
            frame = sealed(head, made.data, checked=self._checked)
            out.add(frame, SentTotals(n, delta_pages=n))
        return made.fates

    def _frame(
        self, kind: FrameType, table: Extents | frames.LineTable, buffers: BatchBuffers, size: int
    ) -> Buffers:
        """Return a frame of what is at the front of the buffers, compressed where that pays."""
        data, checked = buffers.bytes.data[:size], self._checked
        if self._compressor is not None and buffers.pack is not None:
            packed = self._compressor.compress(buffers.pack, data)
            if packed is not None:
                codec, n = self._compressor.codec, len(packed)
                head = encode_packed_head(codec, kind, table, n, checked=checked)
                return sealed(head, packed, checked=checked)
        if kind is FrameType.LINES:
            return sealed(encoder.encode_lines_head(table, checked=checked), data, checked=checked)
        return sealed(encoder.encode_pages_head(table, checked=checked), data, checked=checked)
