"""Arriving pages end where they belong, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pageferry.common.errors import RemoteProtocolError
from pageferry.common.guest.memory import GuestMemory
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire import encoder
from pageferry.common.wire.decoder import FrameDecoder
from pageferry.common.wire.deltas import DELTA_OF
from pageferry.common.wire.extents import Extents, from_pages
from pageferry.common.wire.frames import DeltaFrame, PagesFrame, ZeroFrame
from pageferry.dest_agent.precopy.page_placer import ChannelPlacer, GuestPlacer

N_PAGES = 32


def extents(*pages: int) -> Extents:
    return from_pages(np.array(pages, np.int64))


def page_of(value: int) -> bytes:
    return bytes([value]) * PAGE_SIZE


@pytest.fixture
def memory() -> Iterator[GuestMemory]:
    memory = GuestMemory(N_PAGES * PAGE_SIZE)
    yield memory
    memory.close()


@pytest.fixture
def placer(memory: GuestMemory) -> ChannelPlacer:
    return GuestPlacer(memory).channel()


def page(memory: GuestMemory, number: int) -> bytes:
    return bytes(memory.view[number * PAGE_SIZE : (number + 1) * PAGE_SIZE])


def place(placer: ChannelPlacer, content: dict[int, int]) -> None:
    """As a channel's thread does it: the bytes into the buffers, then the word that they came."""
    where = extents(*sorted(content))
    data = b"".join(page_of(content[number]) for number in sorted(content))
    for buffer in placer.buffers(where):
        buffer[:] = data[: len(buffer)]
        data = data[len(buffer) :]
    assert not data
    placer.arrived(PagesFrame(where, len(content)))


def zero(placer: ChannelPlacer, *pages: int) -> None:
    placer.zero(ZeroFrame(extents(*pages), len(pages)))


class TestPages:
    def test_long_runs_go_to_guest_memory_itself(
        self, placer: ChannelPlacer, memory: GuestMemory
    ) -> None:
        buffers = placer.buffers(extents(*range(12), *range(20, 28)))
        assert [len(buffer) for buffer in buffers] == [12 * PAGE_SIZE, 8 * PAGE_SIZE]
        buffers[1][5] = 77
        assert memory.view[20 * PAGE_SIZE + 5] == 77

    def test_scattered_pages_touch_no_memory_before_they_are_whole(
        self, placer: ChannelPlacer, memory: GuestMemory
    ) -> None:
        (buffer,) = placer.buffers(extents(0, 1, 2, 7, 30, 31))
        buffer[:] = b"x" * 6 * PAGE_SIZE
        assert not memory.words.any()

    def test_more_scattered_pages_than_ever_before(self) -> None:
        big = GuestMemory(2048 * PAGE_SIZE)
        placer = GuestPlacer(big).channel()
        for step in (64, 2):
            place(placer, {page: 1 + page % 250 for page in range(0, 2048, step)})
        first = big.pages[:, 0] & np.uint64(255)
        assert first[::2].tolist() == [1 + page % 250 for page in range(0, 2048, 2)]
        assert not first[1::2].any()
        big.close()

    def test_they_land_at_their_place(self, placer: ChannelPlacer, memory: GuestMemory) -> None:
        content = {0: 1, 1: 2, 2: 3, 7: 4, 30: 5, 31: 6}
        place(placer, content)
        for number in range(N_PAGES):
            assert page(memory, number) == page_of(content.get(number, 0)), number
        assert np.flatnonzero(placer.written).tolist() == sorted(content)

    def test_a_newer_copy_replaces_the_older(
        self, placer: ChannelPlacer, memory: GuestMemory
    ) -> None:
        place(placer, {4: 1, 5: 2})
        place(placer, {5: 9})
        assert (page(memory, 4), page(memory, 5)) == (page_of(1), page_of(9))

    def test_frames_from_the_wire_are_placed(
        self, placer: ChannelPlacer, memory: GuestMemory
    ) -> None:
        where = extents(3, 4, 9)
        data = encoder.encode_pages_head(where) + page_of(3) + page_of(4) + page_of(9)
        data += encoder.encode_zero(extents(4))
        decoder = FrameDecoder(placer, n_pages=N_PAGES)
        while data:
            buffer = decoder.buffers()[0]
            n = min(len(buffer), len(data), 1000)
            buffer[:n], data = data[:n], data[n:]
            for frame in decoder.received(n):
                if isinstance(frame, PagesFrame):
                    placer.arrived(frame)
                else:
                    assert isinstance(frame, ZeroFrame)
                    placer.zero(frame)
        assert [page(memory, number)[0] for number in range(2, 11)] == [0, 3, 0, 0, 0, 0, 0, 9, 0]


class TestZeros:
    def test_content_becomes_zero(self, placer: ChannelPlacer, memory: GuestMemory) -> None:
        place(placer, {5: 7, 6: 8, 7: 9})
        zero(placer, 6)
        assert [page(memory, n) for n in (5, 6, 7)] == [page_of(7), page_of(0), page_of(9)]
        assert np.flatnonzero(placer.written).tolist() == [5, 7]

    @pytest.mark.parametrize("written", [10, 12, 14])
    def test_one_with_content_among_others(
        self, placer: ChannelPlacer, memory: GuestMemory, written: int
    ) -> None:
        place(placer, {9: 1, written: 2, 15: 3})
        zero(placer, *range(10, 15))
        for number in range(9, 16):
            assert page(memory, number) == page_of({9: 1, 15: 3}.get(number, 0)), number

    def test_zeros_of_several_extents_clear_those_pages_only(
        self, placer: ChannelPlacer, memory: GuestMemory
    ) -> None:
        place(placer, dict.fromkeys(range(N_PAGES), 5))
        gone = [0, 1, 8, 20, 21, 22, 31]
        zero(placer, *gone)
        for number in range(N_PAGES):
            assert page(memory, number) == page_of(0 if number in gone else 5), number

    def test_content_again_and_zero_again(self, placer: ChannelPlacer, memory: GuestMemory) -> None:
        for value in (1, 2):
            place(placer, {3: value})
            assert page(memory, 3) == page_of(value)
            zero(placer, 3)
            assert page(memory, 3) == page_of(0)

    def test_an_untouched_page_stays_untouched(
        self, placer: ChannelPlacer, memory: GuestMemory
    ) -> None:
        # Nothing of what the placer wrote can be told from a page that nobody has written, so
        # these are written behind its back.
        memory.pages[10:20] = 1
        zero(placer, *range(10, 20))
        assert (memory.pages[10:20] == 1).all()
        assert not placer.written.any()


def resident(memory: GuestMemory) -> list[int]:
    """Pages that are in memory, as the kernel says it."""
    with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
        pagemap.seek(memory.address // PAGE_SIZE * 8)
        words = np.frombuffer(pagemap.read(8 * memory.n_pages), np.uint64)
    return np.flatnonzero(words >> np.uint64(63)).tolist()


def bits(*pages: int) -> NDArray[np.bool_]:
    out = np.zeros(N_PAGES, np.bool_)
    out[list(pages)] = True
    return out


class TestExpected:
    def test_they_are_there_before_they_come_and_no_others(self, memory: GuestMemory) -> None:
        everybody = GuestPlacer(memory)
        before = resident(memory)
        everybody.expect(bits(3, 4, 5, 9, 31))
        assert resident(memory) == sorted({*before, 3, 4, 5, 9, 31})
        assert not everybody.written.any()

    def test_what_has_not_come_is_given_back(self, memory: GuestMemory) -> None:
        everybody = GuestPlacer(memory)
        everybody.expect(bits(3, 4, 5, 9, 31))
        place(everybody.channel(), {4: 1, 9: 2, 10: 3})
        assert np.flatnonzero(everybody.in_memory).tolist() == [3, 4, 5, 9, 10, 31]
        everybody.forget_unwritten()
        assert np.flatnonzero(everybody.in_memory).tolist() == [4, 9, 10]
        assert resident(memory) == [4, 9, 10]
        assert (page(memory, 4), page(memory, 9)) == (page_of(1), page_of(2))

    def test_nothing_is_given_back_twice(self, memory: GuestMemory) -> None:
        everybody = GuestPlacer(memory)
        everybody.expect(bits(*range(N_PAGES)))
        everybody.forget_unwritten()
        place(everybody.channel(), {4: 1})
        everybody.forget_unwritten()
        assert page(memory, 4) == page_of(1)


def deltas(*encodings: tuple[int, bytes]) -> DeltaFrame:
    table = np.array([(page, len(data)) for page, data in encodings], DELTA_OF)
    return DeltaFrame(table, np.frombuffer(b"".join(data for _, data in encodings), np.uint8))


class TestDeltas:
    def test_change_what_is_there(self, memory: GuestMemory, placer: ChannelPlacer) -> None:
        place(placer, {3: 7, 4: 8})
        placer.delta(deltas((4, b"\x02\x02ab"), (3, b""), (9, b"\xff\x1f\x01z")))
        assert page(memory, 3) == page_of(7)
        assert page(memory, 4) == b"\x08\x08ab" + page_of(8)[4:]
        assert page(memory, 9) == page_of(0)[1:] + b"z"
        assert placer.written[[3, 4, 9]].all()

    def test_one_that_is_not_legal(self, memory: GuestMemory, placer: ChannelPlacer) -> None:
        place(placer, {3: 7})
        with pytest.raises(RemoteProtocolError, match="a delta of page 5 that is not legal"):
            placer.delta(deltas((3, b"\x02\x02ab"), (5, b"\x80\x20\x01z")))
        assert page(memory, 3) == page_of(7)
        assert not placer.written[5]
