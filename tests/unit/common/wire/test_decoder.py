"""The codec: what is encoded is decoded, however it is cut; what is illegal is refused."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.errors import LocalProtocolError, RemoteProtocolError
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire import decoder, encoder, frames, header
from pageferry.common.wire.decoder import FrameDecoder
from pageferry.common.wire.extents import EXTENT, Extents, from_pages
from pageferry.common.wire.frames import (
    LINES_OF,
    BarrierFrame,
    ControlFrame,
    Frame,
    FrameType,
    LinesFrame,
    LineTable,
    PagesFrame,
    RequestFrame,
    ZeroFrame,
)
from pageferry.common.wire.stream_format import StreamFormat

N_PAGES = 64


class Memory:
    """A placer over plain memory."""

    def __init__(self) -> None:
        self.data = bytearray(N_PAGES * PAGE_SIZE)

    def buffers(self, extents: Extents) -> list[memoryview]:
        view = memoryview(self.data)
        return [view[f * PAGE_SIZE : (f + c) * PAGE_SIZE] for f, c in extents.tolist()]


def feed(decoder: FrameDecoder, data: bytes, cuts: list[int]) -> list[Frame]:
    """Hand over `data` in pieces of the given sizes (then the rest), scattered as readv does."""
    out: list[Frame] = []
    rest = memoryview(data)
    sizes = iter(cuts)
    while rest:
        want = next(sizes, len(rest))
        taken = 0
        for buffer in decoder.buffers():
            n = min(len(buffer), want - taken, len(rest))
            buffer[:n] = rest[:n]
            rest = rest[n:]
            taken += n
            if n < len(buffer):
                break
        out += decoder.received(taken)
    return out


def lines_of(numbers: list[int]) -> LineTable:
    """Each number's page, with as many lines as it says, the highest ones."""
    table = np.empty(len(numbers), LINES_OF)
    table["page"] = numbers
    table["mask"] = [(2**64 - 1) << (63 - number % 64) & (2**64 - 1) for number in numbers]
    return table


def line_data(table: LineTable) -> bytes:
    return bytes(i % 251 for i in range(frames.count_lines(table))) * 64


def stream_of(parts: list[tuple[str, list[int]]], checked: bool = False) -> tuple[bytes, bytearray]:
    """A stream of frames, and the memory that it describes."""
    rng = np.random.default_rng(7)
    expected = bytearray(N_PAGES * PAGE_SIZE)
    data = b""
    for kind, numbers in parts:
        extents = from_pages(np.array(sorted(set(numbers)), np.int64))
        if kind == "pages":
            head = encoder.encode_pages_head(extents, checked=checked)
            body = b""
            for first, count in extents.tolist():
                content = rng.bytes(count * PAGE_SIZE)
                expected[first * PAGE_SIZE : (first + count) * PAGE_SIZE] = content
                body += content
            data += head + body + (encoder.trailer(head, body) if checked else b"")
        elif kind == "zero":
            data += encoder.encode_zero(extents, checked=checked)
        elif kind == "lines":
            table = lines_of(numbers)
            head = encoder.encode_lines_head(table, checked=checked)
            body = line_data(table)
            data += head + body + (encoder.trailer(head, body) if checked else b"")
        elif kind == "control":
            data += encoder.encode_control(bytes(numbers))
        else:
            data += encoder.encode_barrier(numbers[0], checked=checked)
    return data, expected


numbers = st.lists(st.integers(0, N_PAGES - 1), min_size=1, max_size=12)
parts = st.lists(
    st.tuples(st.sampled_from(["pages", "zero", "lines", "control", "barrier"]), numbers),
    max_size=5,
)


@given(
    parts=parts,
    cuts=st.lists(st.integers(1, 3 * PAGE_SIZE), max_size=40),
    checked=st.booleans(),
)
def test_any_cut_gives_the_same_frames(
    parts: list[tuple[str, list[int]]], cuts: list[int], checked: bool
) -> None:
    data, expected = stream_of(parts, checked)
    memory = Memory()
    decoder = FrameDecoder(memory, n_pages=N_PAGES, stream=StreamFormat(checksum=checked))
    got = feed(decoder, data, cuts)
    assert len(got) == len(parts)
    assert decoder.at_boundary
    for frame, (kind, wanted) in zip(got, parts, strict=True):
        if isinstance(frame, PagesFrame | ZeroFrame):
            assert kind == ("pages" if isinstance(frame, PagesFrame) else "zero")
            assert frame.pages == len(set(wanted))
        elif isinstance(frame, LinesFrame):
            assert kind == "lines"
            assert frame.table.tolist() == lines_of(wanted).tolist()
            assert len(frame.data) == 64 * frame.lines
        elif isinstance(frame, ControlFrame):
            assert frame.body == bytes(wanted)
        else:
            assert frame == BarrierFrame(wanted[0])
    assert memory.data == expected


@given(parts=parts.filter(bool), cuts=st.lists(st.integers(1, 5000), max_size=9), data=st.data())
def test_no_frame_with_a_wrong_bit(
    parts: list[tuple[str, list[int]]], cuts: list[int], data: st.DataObject
) -> None:
    """Frames before it come out whole; itself never does."""
    lengths = [len(stream_of([part], True)[0]) for part in parts]
    stream = bytearray(stream_of(parts, True)[0])
    at = data.draw(st.integers(0, len(stream) - 1))
    stream[at] ^= 1 << data.draw(st.integers(0, 7))
    hit = next(i for i in range(len(parts)) if at < sum(lengths[: i + 1]))
    decoder = FrameDecoder(Memory(), n_pages=N_PAGES, stream=StreamFormat(checksum=True))
    got: list[Frame] = []
    with contextlib.suppress(RemoteProtocolError):
        for position in range(0, len(stream), 4096):
            got += feed(decoder, bytes(stream[position : position + 4096]), cuts)
    assert len(got) <= hit


@pytest.mark.parametrize("checked", [False, True])
def test_both_ends_must_have_agreed_on_checksums(checked: bool) -> None:
    decoder = FrameDecoder(Memory(), n_pages=N_PAGES, stream=StreamFormat(checksum=checked))
    with pytest.raises(RemoteProtocolError, match="flags"):
        feed(decoder, encoder.encode_barrier(1, checked=not checked), [])


def test_a_long_message_is_taken_as_it_comes() -> None:
    decoder = FrameDecoder()
    head = header.HEADER.pack(FrameType.CONTROL, header.CHECKED, 0, 0, frames.MAX_CONTROL)
    feed(decoder, head, [])
    assert sum(len(buffer) for buffer in decoder.buffers()) <= 2**16
    body = bytes(300_000)
    assert feed(FrameDecoder(), encoder.encode_control(body), []) == [ControlFrame(body)]


@given(data=st.binary(max_size=300))
def test_noise_is_refused_and_never_written_outside(data: bytes) -> None:
    memory = Memory()
    decoder = FrameDecoder(memory, n_pages=N_PAGES)
    try:
        feed(decoder, data, [])
    except RemoteProtocolError:
        with pytest.raises(RemoteProtocolError):
            decoder.buffers()  # a broken decoder stays broken
    assert len(memory.data) == N_PAGES * PAGE_SIZE


def extents(*pairs: tuple[int, int]) -> Extents:
    return np.array(list(pairs), EXTENT)


@given(numbers=numbers, cuts=st.lists(st.integers(1, 5000), max_size=20))
def test_lines_arrive_as_they_were_sent(numbers: list[int], cuts: list[int]) -> None:
    table = lines_of(numbers)
    data = encoder.encode_lines_head(table) + line_data(table)
    (frame,) = feed(FrameDecoder(Memory(), n_pages=N_PAGES), data, cuts)
    assert isinstance(frame, LinesFrame)
    assert frame.lines == frames.count_lines(table)
    assert frame.data.tobytes() == line_data(table)


def lines_head(length: int, *records: tuple[int, int]) -> bytes:
    table = np.array(list(records), LINES_OF)
    size = table.nbytes + length
    return header.HEADER.pack(FrameType.LINES, 0, len(table), 0, size) + table.tobytes()


ILLEGAL = {
    "no lines": lines_head(0, (1, 0)),
    "no pages of lines": header.HEADER.pack(FrameType.LINES, 0, 0, 0, 64),
    "half a line": lines_head(32, (1, 1)),
    "a page without a line": lines_head(128, (1, 3), (2, 0)),
    "fewer lines than announced": lines_head(128, (1, 1)),
    "more lines than announced": lines_head(64, (1, 7)),
    "more pages than lines": lines_head(64, (1, 1), (2, 1)),
    "lines outside memory": lines_head(64, (N_PAGES, 1)),
    "too many lines": header.HEADER.pack(FrameType.LINES, 0, 1, 0, 12 + 64 * 16385),
    "unknown type": header.HEADER.pack(99, 0, 0, 0, 0),
    "flags": header.HEADER.pack(FrameType.BARRIER, 1, 0, 0, 0),
    "barrier with a body": header.HEADER.pack(FrameType.BARRIER, 0, 0, 0, 8),
    "empty control": header.HEADER.pack(FrameType.CONTROL, header.CHECKED, 0, 0, 0),
    "control too long": header.HEADER.pack(
        FrameType.CONTROL, header.CHECKED, 0, 0, frames.MAX_CONTROL + 1
    ),
    "no extents": header.HEADER.pack(FrameType.PAGES, 0, 0, 0, PAGE_SIZE),
    "too many extents": header.HEADER.pack(FrameType.ZERO, 0, 1001, 0, 8008),
    "table cut short": header.HEADER.pack(FrameType.ZERO, 0, 2, 0, 8),
    "half a page": header.HEADER.pack(FrameType.PAGES, 0, 1, 0, 8 + 100),
    "payload in a zero frame": header.HEADER.pack(FrameType.ZERO, 0, 1, 0, 8 + PAGE_SIZE),
    "payload too long": header.HEADER.pack(FrameType.PAGES, 0, 1, 0, 8 + 4097 * PAGE_SIZE),
    "outside memory": encoder.encode_pages_head(extents((N_PAGES - 1, 2))),
    "far outside memory": encoder.encode_zero(extents((2**32 - 1, 2**32 - 1))),
    "empty extent": encoder.encode_zero(extents((3, 0), (4, 1))),
    "fewer pages than announced": header.HEADER.pack(FrameType.PAGES, 0, 1, 0, 8 + 2 * PAGE_SIZE)
    + extents((0, 1)).tobytes(),
}


@pytest.mark.parametrize("name", ILLEGAL)
def test_an_illegal_frame_is_refused(name: str) -> None:
    decoder = FrameDecoder(Memory(), n_pages=N_PAGES)
    with pytest.raises(RemoteProtocolError):
        feed(decoder, ILLEGAL[name], [])


def test_a_control_connection_takes_no_pages() -> None:
    decoder = FrameDecoder()
    with pytest.raises(RemoteProtocolError, match="carries none"):
        feed(decoder, encoder.encode_zero(extents((0, 1))), [])


@pytest.mark.parametrize("cut", [1, 15, 16, 30])
def test_requests_are_decoded_wherever_the_stream_is_cut(cut: int) -> None:
    decoder = FrameDecoder(n_pages=N_PAGES, requests=True)
    data = encoder.encode_request(63, 65535) + encoder.encode_request(0)
    assert feed(decoder, data, [cut]) == [RequestFrame(63, 65535), RequestFrame(0, 0)]
    assert decoder.at_boundary
    with pytest.raises(LocalProtocolError):
        encoder.encode_request(1, 65536)


@pytest.mark.parametrize(
    "data",
    [encoder.encode_request(N_PAGES), header.HEADER.pack(FrameType.REQUEST, 0, 0, 1, 8)],
)
def test_nonsense_is_not_requested(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="a request of"):
        feed(FrameDecoder(n_pages=N_PAGES, requests=True), data, [])


def test_requests_are_legal_only_where_they_are_served() -> None:
    with pytest.raises(RemoteProtocolError, match="serves none"):
        feed(FrameDecoder(Memory(), n_pages=N_PAGES), encoder.encode_request(1), [])


def test_nothing_is_allocated_for_a_header_alone() -> None:
    """A header that announces much must not make the receiver take memory for its payload."""
    decoder = FrameDecoder(Memory(), n_pages=N_PAGES)
    feed(decoder, header.HEADER.pack(FrameType.PAGES, 0, 1000, 0, 8000 + 4096 * PAGE_SIZE), [])
    assert [len(buffer) for buffer in decoder.buffers()] == [8000]


@pytest.mark.parametrize("cut", [1, 15, 16, 17, 24, 4000])
def test_the_middle_of_a_frame_is_no_boundary(cut: int) -> None:
    data, _ = stream_of([("pages", [0, 1])])
    decoder = FrameDecoder(Memory(), n_pages=N_PAGES)
    feed(decoder, data[:cut], [])
    assert not decoder.at_boundary


def test_a_preface_of_another_version_or_kind_is_refused() -> None:
    decoder.check_preface(encoder.encode_preface())
    with pytest.raises(RemoteProtocolError, match=f"version 99.*version {frames.PROTOCOL_VERSION}"):
        decoder.check_preface(encoder.encode_preface(99))
    with pytest.raises(RemoteProtocolError, match=r"not a pageferry agent.*HTTP"):
        decoder.check_preface(b"HTTP/1.1 400 Bad")
