"""Whatever is made shorter on the way arrives as it left: strategies x compression x deltas x more.

A covering sample in one process, over real sockets; all of it with `scripts/test --full`.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import uvloop

from pageferry.commands.certs import certs
from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import PageferryError, VerificationError
from pageferry.common.guest import delta
from pageferry.common.report.schema import Report
from pageferry.common.wire import packing
from pageferry.common.wire.tls_credentials import client_tls, server_tls
from pageferry.source_agent.precopy import payload_compressor
from pageferry.source_agent.report.build import make_report
from tests.integration.test_kernel_tracker import REFUSAL
from tests.support.inprocess import listening, move, session_to
from tests.support.known import known
from tests.support.tiers import FULL

MIB = 2**20
STRATEGIES = ("pre-copy", "three-path", "hybrid", "stop-and-copy", "post-copy", "lazy-copy")
SHORTER = (
    ("zstd", "none"),
    ("none", "xbzrle"),
    ("lz4", "xbzrle"),
    ("lz4", "none"),
    ("zstd", "xbzrle"),
)
GRANULARITIES = ("page", "line")
WHOLE = list(itertools.product(STRATEGIES, SHORTER, GRANULARITIES, (True, False)))


def covering() -> list[tuple[str, tuple[str, str], str, bool]]:
    """Each strategy with some ways to be shorter; granularity and checksums in turn.

    Who goes in rounds has more to go wrong, and is there more often.
    """
    chosen = [
        (strategy, shorter)
        for row, strategy in enumerate(STRATEGIES)
        for column, shorter in enumerate(SHORTER)
        if (row + column) % (2 if row < 3 else 3) == 0
    ]
    return [
        (strategy, shorter, GRANULARITIES[number % 2], number // 3 % 2 == 0)
        for number, (strategy, shorter) in enumerate(sorted(chosen, key=lambda one: one[1]))
    ]


CASES = WHOLE if FULL else covering()


def config(**options: Any) -> MigrationConfig:
    values: dict[str, Any] = {
        "memory": 8 * MIB,
        "workload": "uniform:working-set=4MiB,rate=40MB/s,zero-share=20%,entropy=30%",
        "cache": 256 * 1024,
        "max_bandwidth": 100e6,
        "max_rounds": 3,
        "downtime_limit": 1e-3,  # it is never met: all of the rounds are sent
        "low": 0.0,
        "high": 1.0,
        "warmup": 0.02,
        "run_after": 0.02,
        "delta_cache": 2 * MIB,  # not all that is written fits
    }
    return MigrationConfig.model_validate(values | options)


@pytest.mark.parametrize(("strategy", "shorter", "granularity", "checksum"), CASES)
def test_arrives_as_it_left(
    strategy: str, shorter: tuple[str, str], granularity: str, checksum: bool
) -> None:
    compress, delta_kind = shorter
    report = uvloop.run(
        move(
            config(
                strategy=strategy,
                compress=compress,
                delta=delta_kind,
                granularity=granularity,
                checksum=checksum,
                vcpus=2,
            )
        )
    )
    assert report.verified is True
    in_rounds = strategy in ("pre-copy", "three-path", "hybrid")
    pushed = strategy not in ("pre-copy", "stop-and-copy", "lazy-copy")
    check_compression(report, compress, none_sent=strategy == "lazy-copy")
    check_deltas(report, delta_kind, some=in_rounds)
    if pushed and strategy != "three-path":
        assert report.postcopy is not None
    if strategy != "lazy-copy":
        assert report.pages_sent + report.zero_pages - report.pages_resent == 2048


def check_compression(report: Report, codec: str, *, none_sent: bool) -> None:
    packed = report.compression
    assert (packed is None) == (codec == "none")
    if packed is not None and not none_sent:
        assert packed.ratio is not None
        assert packed.ratio > 1.5
        assert packed.bytes < report.bytes_on_wire < 2048 * 4096 * 0.7 + packed.bytes


def check_deltas(report: Report, kind: str, *, some: bool) -> None:
    deltas = report.xbzrle
    assert (deltas is None) == (kind == "none")
    if deltas is None:
        assert {each.delta_pages for each in report.rounds} <= {None}  # nobody asked for any
    else:
        of_rounds = sum(known(each.delta_pages) for each in report.rounds)
        assert (of_rounds > 0) == some
        assert deltas.pages == of_rounds
        assert deltas.cache_hit == deltas.pages + deltas.overflow
        assert deltas.cache_size == 2 * MIB
        if some:
            assert deltas.encoding_rate is not None
            assert deltas.encoding_rate > 4


KERNEL = pytest.param(
    "kernel", marks=pytest.mark.skipif(bool(REFUSAL), reason=REFUSAL or "available")
)


@pytest.mark.parametrize("tracker", ["log", KERNEL])
def test_who_knows_of_whole_pages_only(tracker: str) -> None:
    """A line written in a page costs some bytes of it."""
    settings = config(
        workload="uniform:working-set=4MiB,rate=40MB/s",
        strategy="pre-copy",
        delta="xbzrle",
        delta_cache=64 * MIB,
        granularity="page",
        dirty_tracker=tracker,
        cache=0,
    )
    report = uvloop.run(move(settings))
    assert report.verified is True
    assert report.xbzrle is not None
    assert report.xbzrle.cache_size == 8 * MIB  # no more than there are pages
    changed = [each for each in report.rounds if each.kind != "full"]
    assert sum(known(each.delta_pages) for each in changed) > 0
    assert all(each.delta_pages == each.pages for each in changed)
    assert all(each.bytes < 100 * each.pages + 200 for each in changed)


def test_compression_and_deltas_over_tls_verify(tmp_path: Path) -> None:
    assert certs(tmp_path) == 0

    async def moved() -> Report:
        async with listening(secure=server_tls(tmp_path / "dest")) as (_agent, port, _said):
            settings = config(strategy="hybrid", compress="zstd", delta="xbzrle")
            session = session_to(port, settings, client_tls(tmp_path / "source"))
            await session.run()
            return make_report(session.record)

    report = uvloop.run(moved())
    assert report.verified is True
    assert report.config["tls"] is True
    assert report.compression is not None


async def _refused(settings: MigrationConfig) -> tuple[Report, PageferryError]:
    async with listening() as (_agent, port, _said):
        session = session_to(port, settings)
        with pytest.raises(PageferryError) as caught:
            await session.run()
        return make_report(session.record), caught.value


class TestWhatIsWrong:
    """It ends with one line, and the guest goes on where it was."""

    def goes_on(self, complaint: str, **options: Any) -> None:
        report, error = uvloop.run(_refused(config(strategy="pre-copy", **options)))
        assert complaint in str(error)
        assert "\n" not in str(error)
        assert report.outcome == "failed"
        assert report.guest.runs_at == "source"

    @pytest.mark.parametrize("codec", ["zstd", "lz4"])
    def test_a_payload_that_does_not_unpack(
        self, codec: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            payload_compressor, "packer", lambda _codec: lambda data: bytes(data[:100])
        )
        self.goes_on(f"an illegal {codec}", compress=codec)

    def test_one_that_becomes_too_long(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def longer(codec: packing.Codec) -> packing.Pack:
            pack = packing.packer(codec)
            return lambda data: pack(memoryview(bytes(data) + bytes(1)))

        monkeypatch.setattr(payload_compressor, "packer", longer)
        self.goes_on("a zstd frame that announces", compress="zstd")

    def test_a_delta_that_leaves_its_page(self, monkeypatch: pytest.MonkeyPatch) -> None:
        encode = delta.encode_batch

        def spoils(memory: Any, cache: Any, batch: delta.DeltaBatch, *rest: Any) -> int:
            size = encode(memory, cache, batch, *rest)
            batch.out[:2] = 0xFF, 0x7F
            return size

        monkeypatch.setattr(delta, "encode_batch", spoils)
        self.goes_on("that is not legal", delta="xbzrle")

    def test_a_changed_bit_is_noticed(self) -> None:
        self.goes_on(
            "was changed on its way",
            compress="lz4",
            delta="xbzrle",
            inject=("source/after-round-1:corrupt",),
        )


def test_a_base_that_is_not_what_the_destination_has_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A cache that is ahead of what was sent: what changed in between never travels."""
    encode = delta.encode_batch

    def runs_ahead(memory: Any, cache: delta.PageCache, *rest: Any) -> int:
        if (cache.pages >= 0).any():
            cache.words[:] = memory
        return encode(memory, cache, *rest)

    monkeypatch.setattr(delta, "encode_batch", runs_ahead)
    with pytest.raises(VerificationError):
        uvloop.run(move(config(strategy="pre-copy", delta="xbzrle", delta_cache=8 * MIB)))
