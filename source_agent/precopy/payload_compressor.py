"""Payloads of frames, compressed where that pays, and what it has cost."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from pageferry.common.timeline import Timeline
from pageferry.common.wire.packing import Codec, Pack, packer
from pageferry.source_agent.precopy.compression_backoff import (
    SAMPLE_BYTES,
    CompressionBackoff,
    pays,
)


@dataclass(frozen=True, slots=True)
class CompressionStats:
    """Payloads of pages and lines.

    Attributes:
        raw_bytes: before, those that did not shrink included.
        bytes: after.
        batches: how many payloads.
        in_vain: those that were tried and did not become shorter.
        skipped: those that were not tried, because it had turned itself off.
        cpu_s: what compressing cost.
    """

    raw_bytes: int = 0
    bytes: int = 0
    batches: int = 0
    in_vain: int = 0
    skipped: int = 0
    cpu_s: float = 0.0


class PayloadCompressor:
    """Compresses for any number of threads, each with a `Pack` of its own.

    Attributes:
        codec: how.
        stats: so far.
    """

    def __init__(self, codec: Codec, timeline: Timeline) -> None:
        self.codec = codec
        self.stats = CompressionStats()
        self._timeline = timeline
        self._backoff = CompressionBackoff(self._switched)
        self._lock = threading.Lock()

    def new_pack(self) -> Pack:
        """Return what one thread compresses with."""
        return packer(self.codec)

    def compress(self, pack: Pack, data: memoryview) -> bytes | None:
        """Compress `data`; return None if it should be sent uncompressed."""
        judged = len(data) >= SAMPLE_BYTES
        if not (self._backoff.should_try() if judged else self._backoff.on):
            self._count(len(data), len(data), skipped=1)
            return None
        started = time.thread_time()
        packed = pack(data)
        spent = time.thread_time() - started
        paid = pays(len(data), len(packed))
        if judged:
            self._backoff.record(paid)
        size = len(packed) if paid else len(data)
        self._count(len(data), size, in_vain=not paid, cpu_s=spent)
        return packed if paid else None

    def _count(
        self, raw: int, size: int, *, in_vain: int = 0, skipped: int = 0, cpu_s: float = 0.0
    ) -> None:
        with self._lock:
            before = self.stats
            self.stats = CompressionStats(
                before.raw_bytes + raw,
                before.bytes + size,
                before.batches + 1,
                before.in_vain + in_vain,
                before.skipped + skipped,
                before.cpu_s + cpu_s,
            )

    def _switched(self, on: bool) -> None:
        stats = self.stats
        self._timeline.log(
            "compression-on" if on else "compression-off",
            batches=stats.batches,
            raw_bytes=stats.raw_bytes,
            bytes=stats.bytes,
        )
