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
    """What became of payloads of pages and lines.

    Attributes:
        raw_bytes: Before compression, including payloads that did not shrink.
        bytes: After it, likewise.
        batches: How many payloads there were.
        in_vain: Payloads that were tried and did not become shorter by enough.
        skipped: Payloads that were not tried, because compression had turned itself off.
        cpu_s: CPU seconds that compressing cost.
    """

    raw_bytes: int = 0
    bytes: int = 0
    batches: int = 0
    in_vain: int = 0
    skipped: int = 0
    cpu_s: float = 0.0


class PayloadCompressor:
    """Compresses for any number of threads, each with a `Pack` of its own.

    Args:
        codec: How payloads are compressed.
        timeline: Is told when compression turns itself off or on.

    Attributes:
        codec: How payloads are compressed.
        stats: What became of payloads so far.
    """

    def __init__(self, codec: Codec, timeline: Timeline) -> None:
        self.codec = codec
        self.stats = CompressionStats()
        self._timeline = timeline
        self._backoff = CompressionBackoff(self._switched)
        self._lock = threading.Lock()

    def new_pack(self) -> Pack:
        """Make what one thread compresses with.

        Returns:
            For one thread at a time.
        """
        return packer(self.codec)

    def compress(self, pack: Pack, data: memoryview) -> bytes | None:
        """Compress a payload, unless that does not pay at the moment.

        Args:
            pack: From `new_pack`, used by this thread only.
            data: The payload; must not change meanwhile.

        Returns:
            The compressed payload; None: it should be sent as it is.
        """
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
