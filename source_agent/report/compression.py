"""The report's parts about compression and deltas: what they cost, and what they gained."""

from __future__ import annotations

from pageferry.common.report.sections.compression import CompressionReport, XbzrleReport
from pageferry.common.report.sections.guest import CpuReport
from pageferry.common.units import PAGE_SIZE
from pageferry.source_agent.measurements import Measurements


def compression_report(record: Measurements) -> CompressionReport | None:
    """Report what compression cost and gained.

    Args:
        record: With the destination's result its CPU seconds are known, too.

    Returns:
        None where it was not asked for, or nothing was ready to be sent.
    """
    codec = record.config.compress
    if codec == "none" or record.precopy.encoder is None:
        return None
    stats = record.precopy.encoder.compression
    finished = record.result.finished
    return CompressionReport(
        codec=codec,
        raw_bytes=stats.raw_bytes,
        bytes=stats.bytes,
        ratio=_share(stats.raw_bytes, stats.bytes),
        batches=stats.batches,
        batches_in_vain=stats.in_vain,
        batches_skipped=stats.skipped,
        cpu_s=CpuReport(source=stats.cpu_s, dest=finished.unpack_cpu_s if finished else None),
    )


def xbzrle_report(record: Measurements) -> XbzrleReport | None:
    """Report what deltas cost and gained.

    Args:
        record: Its encoder has counted.

    Returns:
        None where they were not asked for, or nothing was ready to be sent.
    """
    if record.config.delta == "none" or record.precopy.encoder is None:
        return None
    stats = record.precopy.encoder.deltas
    return XbzrleReport(
        cache_size=record.precopy.encoder.cache_size,
        bytes=stats.bytes,
        pages=stats.pages,
        cache_hit=stats.hits,
        cache_miss=stats.misses,
        cache_miss_rate=_share(stats.misses, stats.hits + stats.misses),
        encoding_rate=_share(stats.pages * PAGE_SIZE, stats.bytes),
        overflow=stats.overflows,
        cpu_s=stats.cpu_s,
    )


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
