"""What the report says of compression and deltas."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from pageferry.common.config.model import MigrationConfig
from pageferry.common.terminal.console import result_rows
from pageferry.source_agent.measurements import Measurements
from pageferry.source_agent.precopy.compressing_encoder import CompressingEncoder
from pageferry.source_agent.precopy.delta_encoder import DeltaStats
from pageferry.source_agent.precopy.payload_compressor import CompressionStats
from pageferry.source_agent.report.build import make_report
from pageferry.source_agent.report.compression import compression_report, xbzrle_report
from tests.unit.source_agent.report.test_build import finished, record

MIB = 2**20


def compressed(**options: Any) -> Measurements:
    out = record()
    out.config = MigrationConfig(memory=8 * MIB, vcpus=2, workload="uniform", **options)
    encoder = SimpleNamespace(
        compression=CompressionStats(4000, 1000, 10, 2, 3, 0.5),
        deltas=DeltaStats(50, 4096, 60, 40, 10, 0.25),
        cache_size=2 * MIB,
    )
    out.precopy.encoder = cast(CompressingEncoder, encoder)
    out.result.finished = finished(unpack_cpu_s=0.125)
    return out


def test_compression_is_reported_with_its_ratio() -> None:
    report = compression_report(compressed(compress="lz4"))
    assert report is not None
    assert report.model_dump() == {
        "codec": "lz4",
        "raw_bytes": 4000,
        "bytes": 1000,
        "ratio": 4.0,
        "batches": 10,
        "batches_in_vain": 2,
        "batches_skipped": 3,
        "cpu_s": {"source": 0.5, "dest": 0.125},
    }


def test_deltas_are_reported_by_qemus_names() -> None:
    report = xbzrle_report(compressed(delta="xbzrle"))
    assert report is not None
    assert report.model_dump() == {
        "cache_size": 2 * MIB,
        "bytes": 4096,
        "pages": 50,
        "cache_hit": 60,
        "cache_miss": 40,
        "cache_miss_rate": 0.4,
        "encoding_rate": 50.0,
        "overflow": 10,
        "cpu_s": 0.25,
    }


def test_before_anything_was_sent() -> None:
    made = compressed(compress="zstd", delta="xbzrle")
    assert made.precopy.encoder is not None
    cast(SimpleNamespace, made.precopy.encoder).compression = CompressionStats()
    cast(SimpleNamespace, made.precopy.encoder).deltas = DeltaStats()
    made.result.finished = None
    packed, deltas = compression_report(made), xbzrle_report(made)
    assert packed is not None
    assert deltas is not None
    assert (packed.ratio, packed.cpu_s.dest) == (None, None)
    assert (deltas.cache_miss_rate, deltas.encoding_rate) == (None, None)


@pytest.mark.parametrize("which", [{"compress": "zstd"}, {"delta": "xbzrle"}])
def test_of_what_was_not_asked_for_nothing(which: dict[str, Any]) -> None:
    made = compressed(**which)
    assert (compression_report(made) is None) == ("delta" in which)
    assert (xbzrle_report(made) is None) == ("compress" in which)
    made.precopy.encoder = None  # it had not come so far
    assert compression_report(made) is None
    assert xbzrle_report(made) is None


def test_the_table_says_what_compression_cost_and_gained() -> None:
    made = compressed(compress="lz4", delta="xbzrle")
    cast(Any, made.precopy.rounds).transfer_cost = SimpleNamespace(wire_bytes=lambda raw: raw)
    rows = dict(result_rows(make_report(made)))
    assert rows["compression"] == (
        "lz4: 4 kB to 1 kB, 4 times, for 0.50 s and 0.12 s of CPU; 5 of 10 batches as they were"
    )
    assert rows["deltas"] == (
        "50 pages as 4.1 kB, 50 times shorter; 40.0% missed a cache of 2.1 MB, 10 overflowed"
    )
