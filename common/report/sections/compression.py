"""Sections of a report about compression and deltas."""

from __future__ import annotations

from typing import Literal

from pageferry.common.report.sections.base import ReportSection
from pageferry.common.report.sections.guest import CpuReport


class CompressionReport(ReportSection):
    """What `--compress` cost and gained.

    Attributes:
        codec: How pages were compressed.
        raw_bytes: Contents of pages and lines that it was to make shorter.
        bytes: What they took on the wire, headers not counted.
        ratio: `raw_bytes` / `bytes`; null where nothing was sent.
        batches: Batches of them.
        batches_in_vain: Tried, and sent as they were because they did not become shorter by an
            eighth.
        batches_skipped: Not tried, because compression had turned itself off (events
            `compression-off`, `compression-on`).
        cpu_s: CPU seconds for compressing, and for decompressing.
    """

    codec: Literal["zstd", "lz4"]
    raw_bytes: int
    bytes: int
    ratio: float | None
    batches: int
    batches_in_vain: int
    batches_skipped: int
    cpu_s: CpuReport


class XbzrleReport(ReportSection):
    """What `--delta xbzrle` did, by QEMU's names (`query-migrate`, `xbzrle-cache`).

    Only `cache_hit` is not QEMU's, which does not report it.

    Attributes:
        cache_size: Bytes of old pages that the source kept.
        bytes: What pages that went as a delta took, with their table.
        pages: Pages that went as a delta.
        cache_hit: Pages that were looked up and were there, zero pages not counted.
        cache_miss: Pages that were looked up and were not there, zero pages not counted.
        cache_miss_rate: Misses of all that were looked up; null where nothing was.
        encoding_rate: Bytes of those pages for a byte of their deltas; null where nothing was
            counted.
        overflow: Deltas that were no shorter than what they stood for.
        cpu_s: CPU seconds at the source.
    """

    cache_size: int
    bytes: int
    pages: int
    cache_hit: int
    cache_miss: int
    cache_miss_rate: float | None
    encoding_rate: float | None
    overflow: int
    cpu_s: float
