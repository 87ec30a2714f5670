"""Of a report: compression and deltas."""

from __future__ import annotations

from typing import Literal

from pageferry.common.report.sections.base import ReportSection
from pageferry.common.report.sections.guest import CpuReport


class CompressionReport(ReportSection):
    """What `--compress` cost and gained.

    raw_bytes: contents of pages and lines that it was to make shorter, bytes: what they took on the
    wire, headers not counted; ratio: the one by the other, null where nothing was sent. batches: of
    them; batches_in_vain: tried, and sent as they were because they did not become shorter by an
    eighth; batches_skipped: not tried, because compression had turned itself off (events
    `compression-off`, `compression-on`). cpu_s: compressing, and decompressing.
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

    But for cache_hit, which QEMU does not tell.
    cache_size: bytes of old pages that the source kept; pages: that went as a delta, and bytes:
    what those took, with their table; cache_hit, cache_miss: pages that were looked up and were
    there, or not, zero pages not counted; cache_miss_rate: of all that were looked up;
    encoding_rate: bytes of those pages for a byte of their deltas; overflow: a delta was no shorter
    than what it stood for. Rates are null where nothing was counted. cpu_s: at the source.
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
