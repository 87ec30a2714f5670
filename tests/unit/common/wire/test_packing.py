"""Compressed frames and frames of deltas: they arrive however they are cut, or are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lz4.block
import numba
import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.errors import CorruptFrame, LocalProtocolError, RemoteProtocolError
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire import encoder, frames
from pageferry.common.wire.decoder import FrameDecoder
from pageferry.common.wire.deltas import DELTA_OF, MAX_DELTA_BYTES, MAX_DELTA_PAGES, DeltaTable
from pageferry.common.wire.encoder import encode_delta_head, encode_packed_head
from pageferry.common.wire.extents import from_pages
from pageferry.common.wire.frames import DeltaFrame, Frame, FrameType, LinesFrame, PagesFrame
from pageferry.common.wire.header import HEADER
from pageferry.common.wire.packing import (
    MAX_UNPACKED,
    Codec,
    Unpacker,
    check_size,
    codec_of,
    packer,
)
from pageferry.common.wire.stream_format import StreamFormat
from tests.unit.common.wire.test_decoder import N_PAGES, Memory, extents, feed, lines_of

CODECS = pytest.mark.parametrize("codec", list(Codec))
codecs = st.sampled_from(list(Codec))
cuts = st.lists(st.integers(1, 3 * PAGE_SIZE), max_size=40)
numbers = st.lists(st.integers(0, N_PAGES - 1), min_size=1, max_size=12)


def decoder(
    memory: Memory | None = None, codec: Codec | None = Codec.ZSTD, *, checked: bool = False
) -> FrameDecoder:
    return FrameDecoder(
        memory or Memory(),
        stream=StreamFormat(checksum=checked, codec=codec, deltas=True),
        n_pages=N_PAGES,
    )


def finished(data: bytes, checked: bool) -> bytes:
    return data + (encoder.trailer(data) if checked else b"")


def packed_pages(codec: Codec, pages: list[int], content: bytes, checked: bool = False) -> bytes:
    packed = packer(codec)(memoryview(content))
    table = from_pages(np.array(pages, np.int64))
    head = encode_packed_head(codec, FrameType.PAGES, table, len(packed), checked=checked)
    return finished(head + packed, checked)


@given(codec=codecs, wanted=numbers, cuts=cuts, checked=st.booleans(), seed=st.integers(0, 9))
def test_packed_pages_arrive_wherever_the_stream_is_cut(
    codec: Codec, wanted: list[int], cuts: list[int], checked: bool, seed: int
) -> None:
    pages = sorted(set(wanted))
    rng = np.random.default_rng(seed)
    content = b"".join(rng.bytes(100) + bytes([page]) * (PAGE_SIZE - 100) for page in pages)
    memory = Memory()
    got = feed(
        decoder(memory, codec, checked=checked),
        packed_pages(codec, pages, content, checked) + encoder.encode_barrier(3, checked=checked),
        cuts,
    )
    assert isinstance(got[0], PagesFrame)
    assert got[0].pages == len(pages)
    assert got[1:] == [frames.BarrierFrame(3)]
    for at, page in enumerate(pages):
        there = memory.data[page * PAGE_SIZE : (page + 1) * PAGE_SIZE]
        assert there == content[at * PAGE_SIZE : (at + 1) * PAGE_SIZE]


@given(codec=codecs, wanted=numbers, cuts=cuts, checked=st.booleans())
def test_packed_lines_arrive_wherever_the_stream_is_cut(
    codec: Codec, wanted: list[int], cuts: list[int], checked: bool
) -> None:
    table = lines_of([*wanted, 30])
    content = bytes(i % 7 for i in range(64)) * frames.count_lines(table)
    packed = packer(codec)(memoryview(content))
    head = encode_packed_head(codec, FrameType.LINES, table, len(packed), checked=checked)
    (frame,) = feed(decoder(None, codec, checked=checked), finished(head + packed, checked), cuts)
    assert isinstance(frame, LinesFrame)
    assert frame.table.tolist() == table.tolist()
    assert frame.data.tobytes() == content
    assert frame.lines == frames.count_lines(table)


@CODECS
def test_packed_lines_are_of_the_kind_that_placing_was_compiled_for(codec: Codec) -> None:
    """Else it is compiled anew when the first ones come: within the downtime."""
    read, kinds = decoder(None, codec), set[Any]()
    type_of: Callable[[object], Any] = numba.typeof
    for masks in ([1], [2, 3, 4], [5]):
        table = lines_of(masks)
        content = b"z" * 64 * frames.count_lines(table)
        plain = encoder.encode_lines_head(table) + content
        packed = packer(codec)(memoryview(content))
        head = encode_packed_head(codec, FrameType.LINES, table, len(packed))
        for stream in (plain, head + packed):
            (frame,) = feed(read, stream, [])
            assert isinstance(frame, LinesFrame)
            assert frame.data.tobytes() == content
            kinds.add(type_of(frame.data.view(np.uint64)))
    assert kinds == {type_of(np.empty(1, np.uint64))}


def deltas_of(*records: tuple[int, int]) -> DeltaTable:
    return np.array(list(records), DELTA_OF)


@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=20),
    cuts=st.lists(st.integers(1, 50), max_size=40),
    checked=st.booleans(),
)
def test_deltas_arrive_wherever_the_stream_is_cut(
    lengths: list[int], cuts: list[int], checked: bool
) -> None:
    table = deltas_of(*((i % N_PAGES, length) for i, length in enumerate(lengths)))
    data = bytes(range(sum(lengths) % 251)) + bytes(sum(lengths) - sum(lengths) % 251)
    stream = finished(encode_delta_head(table, checked=checked) + data, checked)
    got: list[Frame] = []
    read = decoder(checked=checked)
    for frame in feed(read, 2 * stream, cuts):
        assert isinstance(frame, DeltaFrame)
        assert frame.table.tolist() == table.tolist()
        got.append(frame)
    assert len(got) == 2
    assert isinstance(got[-1], DeltaFrame)
    assert got[-1].data.tobytes() == data
    assert read.at_boundary


@CODECS
@given(data=st.data())
def test_a_wrong_bit_is_found_before_anything_is_unpacked(
    codec: Codec, data: st.DataObject
) -> None:
    stream = bytearray(packed_pages(codec, [3], b"x" * PAGE_SIZE, True))
    at = data.draw(st.integers(HEADER.size + 8, len(stream) - 1))
    stream[at] ^= 1 << data.draw(st.integers(0, 7))
    memory = Memory()
    with pytest.raises(CorruptFrame, match="compressed pages was changed"):
        feed(decoder(memory, codec, checked=True), bytes(stream), [])
    assert not any(memory.data)


@CODECS
@given(data=st.data())
def test_damaged_payloads_without_checksums(codec: Codec, data: st.DataObject) -> None:
    """They may become something else, but never longer, and nothing outside of its pages."""
    content = bytes(range(64)) * 128
    stream = bytearray(packed_pages(codec, [3, 4], content))
    at = data.draw(st.integers(HEADER.size + 8, len(stream) - 1))
    stream[at : at + 3] = data.draw(st.binary(min_size=3, max_size=3))
    memory = Memory()
    try:
        got = feed(decoder(memory, codec), bytes(stream[: len(stream)]), [])
    except RemoteProtocolError:
        got = []
    assert all(isinstance(frame, PagesFrame) and frame.pages == 2 for frame in got)
    assert not any(memory.data[: 3 * PAGE_SIZE])
    assert not any(memory.data[5 * PAGE_SIZE :])


class TestBombs:
    """Little that says it is much."""

    @pytest.mark.parametrize("size", [0, PAGE_SIZE - 1, PAGE_SIZE + 1, 1 << 30])
    def test_a_bomb_of_zstd_is_refused_by_the_size_that_it_announces(self, size: int) -> None:
        bomb = zstandard.ZstdCompressor().compress(bytes(size))
        with pytest.raises(RemoteProtocolError, match=f"announces {size} bytes, expected 4096"):
            Unpacker(Codec.ZSTD).unpack(memoryview(bomb), PAGE_SIZE)

    def test_zstd_that_does_not_say(self) -> None:
        stream = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 20))
        with pytest.raises(RemoteProtocolError, match="announces -1"):
            Unpacker(Codec.ZSTD).unpack(memoryview(stream), PAGE_SIZE)

    def test_zstd_with_a_tail(self) -> None:
        data = zstandard.ZstdCompressor().compress(bytes(PAGE_SIZE))
        for tail in (b"x", data):
            with pytest.raises(RemoteProtocolError, match="illegal zstd frame"):
                Unpacker(Codec.ZSTD).unpack(memoryview(data + tail), PAGE_SIZE)

    @pytest.mark.parametrize("size", [PAGE_SIZE + 1, 1 << 24])
    def test_an_lz4_block_that_becomes_too_long_is_refused(self, size: int) -> None:
        bomb = lz4.block.compress(bytes(size), store_size=False)
        with pytest.raises(RemoteProtocolError, match="illegal lz4 block"):
            Unpacker(Codec.LZ4).unpack(memoryview(bomb), PAGE_SIZE)

    def test_an_lz4_block_that_becomes_too_short_is_refused(self) -> None:
        short = lz4.block.compress(bytes(PAGE_SIZE - 1), store_size=False)
        with pytest.raises(RemoteProtocolError, match="became 4095 bytes, expected 4096"):
            Unpacker(Codec.LZ4).unpack(memoryview(short), PAGE_SIZE)

    def test_noise_is_no_payload_of_any_codec(self) -> None:
        for codec in Codec:
            with pytest.raises(RemoteProtocolError):
                Unpacker(codec).unpack(memoryview(b"\xff" * 100), PAGE_SIZE)


def head(kind: FrameType, entries: int, value: int, length: int) -> bytes:
    return HEADER.pack(kind, 0, entries, value, length)


ZSTD_PAGES = Codec.ZSTD | FrameType.PAGES << 8
ZSTD_LINES = Codec.ZSTD | FrameType.LINES << 8
ILLEGAL = {
    "another codec": head(FrameType.PACKED, 1, Codec.LZ4 | FrameType.PAGES << 8, 100),
    "no codec": head(FrameType.PACKED, 1, FrameType.PAGES << 8, 100),
    "packed control": head(FrameType.PACKED, 1, Codec.ZSTD | FrameType.CONTROL << 8, 100),
    "packed twice": head(FrameType.PACKED, 1, Codec.ZSTD | FrameType.PACKED << 8, 100),
    "packed type unknown": head(FrameType.PACKED, 1, Codec.ZSTD | 99 << 8, 100),
    "more in its value": head(FrameType.PACKED, 1, ZSTD_PAGES | 1 << 16, 100),
    "no extents": head(FrameType.PACKED, 0, ZSTD_PAGES, 100),
    "too many extents": head(FrameType.PACKED, 1001, ZSTD_PAGES, 10_000),
    "too many lines": head(FrameType.PACKED, 16385, ZSTD_LINES, 200_000),
    "no payload": head(FrameType.PACKED, 1, ZSTD_PAGES, 8),
    "table cut short": head(FrameType.PACKED, 2, ZSTD_PAGES, 8),
    "payload too long": head(FrameType.PACKED, 1, ZSTD_PAGES, 8 + MAX_UNPACKED),
    "no shorter": encode_packed_head(Codec.ZSTD, FrameType.PAGES, extents((0, 1)), PAGE_SIZE),
    "lines no shorter": encode_packed_head(Codec.ZSTD, FrameType.LINES, lines_of([0]), 64),
    "outside memory": encode_packed_head(Codec.ZSTD, FrameType.PAGES, extents((63, 2)), 100),
    "lines outside memory": encode_packed_head(
        Codec.ZSTD, FrameType.LINES, lines_of([N_PAGES]), 60
    ),
    "lines of none": encode_packed_head(
        Codec.ZSTD, FrameType.LINES, np.array([(1, 0)], frames.LINES_OF), 60
    ),
    "too many pages": encode_packed_head(
        Codec.ZSTD, FrameType.PAGES, extents(*[(0, N_PAGES)] * 65), 100
    ),
    "no deltas": head(FrameType.DELTA, 0, 0, 4),
    "too many deltas": head(FrameType.DELTA, MAX_DELTA_PAGES + 1, 0, 100_000),
    "deltas too long": head(FrameType.DELTA, 1, 0, 6 + MAX_DELTA_BYTES + 1),
    "deltas cut short": head(FrameType.DELTA, 2, 0, 6),
    "a delta outside memory": encode_delta_head(deltas_of((N_PAGES, 3))),
    "a delta of more than a page": encode_delta_head(deltas_of((1, PAGE_SIZE + 1))),
    "deltas that do not add up": head(FrameType.DELTA, 1, 0, 9) + deltas_of((1, 4)).tobytes(),
}


@pytest.mark.parametrize("name", ILLEGAL)
def test_an_illegal_frame_is_refused_and_nothing_is_read_on(name: str) -> None:
    read = decoder()
    with pytest.raises(RemoteProtocolError):
        feed(read, ILLEGAL[name], [])
    with pytest.raises(RemoteProtocolError):
        read.buffers()


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (ILLEGAL["no shorter"], "compressed by codec 1, which was not agreed"),
        (encode_delta_head(deltas_of((1, 0))), "a delta of pages, which was not agreed"),
    ],
)
def test_what_was_not_agreed(data: bytes, complaint: str) -> None:
    for placer in (Memory(), None):
        with pytest.raises(RemoteProtocolError, match=complaint):
            feed(FrameDecoder(placer, n_pages=N_PAGES), data, [])


def test_no_more_is_taken_than_its_pages_could_be() -> None:
    """What a header announces costs nothing before its table has said how much it may be."""
    read = decoder()
    feed(read, head(FrameType.PACKED, 1000, ZSTD_PAGES, 8000 + MAX_UNPACKED - 1), [])
    assert [len(buffer) for buffer in read.buffers()] == [8000]


def test_a_payload_beyond_the_bound_is_refused() -> None:
    check_size(1, MAX_UNPACKED)
    with pytest.raises(RemoteProtocolError):
        check_size(1, MAX_UNPACKED + 1)


@pytest.mark.parametrize(
    "table", [deltas_of(), deltas_of(*[(1, 4096)] * 257), deltas_of(*[(1, 0)] * 4097)]
)
def test_frames_that_nobody_may_send(table: DeltaTable) -> None:
    with pytest.raises(LocalProtocolError):
        encode_delta_head(table)


def test_a_codec_is_found_by_its_name() -> None:
    assert codec_of("none") is None
    assert [codec_of("zstd"), codec_of("lz4")] == [Codec.ZSTD, Codec.LZ4]
