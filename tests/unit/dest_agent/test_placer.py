"""Arriving pages end where they belong, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from common.errors import RemoteProtocolError
from common.guest.memory import GuestMemory
from common.units import PAGE_SIZE
from common.wire import frames
from common.wire.deltas import DELTA_OF
from common.wire.extents import Extents, from_pages
from common.wire.frames import DeltaFrame, FrameDecoder, PagesFrame, ZeroFrame
from dest_agent.placer import GuestPlacer

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
def placer(memory: GuestMemory) -> GuestPlacer:
    return GuestPlacer(memory)


def page(memory: GuestMemory, number: int) -> bytes:
    return bytes(memory.view[number * PAGE_SIZE : (number + 1) * PAGE_SIZE])


def place(placer: GuestPlacer, content: dict[int, int]) -> None:
    """As a channel's thread does it: the bytes into the buffers, then the word that they came."""
    where = extents(*sorted(content))
    data = b"".join(page_of(content[number]) for number in sorted(content))
    for buffer in placer.buffers(where):
        buffer[:] = data[: len(buffer)]
        data = data[len(buffer) :]
    assert not data
    placer.arrived(PagesFrame(where, len(content)))


def zero(placer: GuestPlacer, *pages: int) -> None:
    placer.zero(ZeroFrame(extents(*pages), len(pages)))


class TestPages:
    def test_one_buffer_an_extent_of_its_size(self, placer: GuestPlacer) -> None:
        sizes = [len(buffer) for buffer in placer.buffers(extents(0, 1, 2, 7, 30, 31))]
        assert sizes == [3 * PAGE_SIZE, PAGE_SIZE, 2 * PAGE_SIZE]

    def test_they_land_at_their_place(self, placer: GuestPlacer, memory: GuestMemory) -> None:
        content = {0: 1, 1: 2, 2: 3, 7: 4, 30: 5, 31: 6}
        place(placer, content)
        for number in range(N_PAGES):
            assert page(memory, number) == page_of(content.get(number, 0)), number
        assert np.flatnonzero(placer.written).tolist() == sorted(content)

    def test_a_newer_copy_replaces_the_older(
        self, placer: GuestPlacer, memory: GuestMemory
    ) -> None:
        place(placer, {4: 1, 5: 2})
        place(placer, {5: 9})
        assert (page(memory, 4), page(memory, 5)) == (page_of(1), page_of(9))

    def test_from_the_wire(self, placer: GuestPlacer, memory: GuestMemory) -> None:
        where = extents(3, 4, 9)
        data = frames.encode_pages_head(where) + page_of(3) + page_of(4) + page_of(9)
        data += frames.encode_zero(extents(4))
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
    def test_content_becomes_zero(self, placer: GuestPlacer, memory: GuestMemory) -> None:
        place(placer, {5: 7, 6: 8, 7: 9})
        zero(placer, 6)
        assert [page(memory, n) for n in (5, 6, 7)] == [page_of(7), page_of(0), page_of(9)]
        assert np.flatnonzero(placer.written).tolist() == [5, 7]

    @pytest.mark.parametrize("written", [10, 12, 14])
    def test_one_with_content_among_others(
        self, placer: GuestPlacer, memory: GuestMemory, written: int
    ) -> None:
        place(placer, {9: 1, written: 2, 15: 3})
        zero(placer, *range(10, 15))
        for number in range(9, 16):
            assert page(memory, number) == page_of({9: 1, 15: 3}.get(number, 0)), number

    def test_several_extents(self, placer: GuestPlacer, memory: GuestMemory) -> None:
        place(placer, dict.fromkeys(range(N_PAGES), 5))
        gone = [0, 1, 8, 20, 21, 22, 31]
        zero(placer, *gone)
        for number in range(N_PAGES):
            assert page(memory, number) == page_of(0 if number in gone else 5), number

    def test_content_again_and_zero_again(self, placer: GuestPlacer, memory: GuestMemory) -> None:
        for value in (1, 2):
            place(placer, {3: value})
            assert page(memory, 3) == page_of(value)
            zero(placer, 3)
            assert page(memory, 3) == page_of(0)

    def test_an_untouched_page_stays_untouched(
        self, placer: GuestPlacer, memory: GuestMemory
    ) -> None:
        # Nothing of what the placer wrote can be told from a page that nobody has written, so
        # these are written behind its back.
        memory.pages[10:20] = 1
        zero(placer, *range(10, 20))
        assert (memory.pages[10:20] == 1).all()
        assert not placer.written.any()


def deltas(*encodings: tuple[int, bytes]) -> DeltaFrame:
    table = np.array([(page, len(data)) for page, data in encodings], DELTA_OF)
    return DeltaFrame(table, np.frombuffer(b"".join(data for _, data in encodings), np.uint8))


class TestDeltas:
    def test_change_what_is_there(self, memory: GuestMemory, placer: GuestPlacer) -> None:
        place(placer, {3: 7, 4: 8})
        placer.delta(deltas((4, b"\x02\x02ab"), (3, b""), (9, b"\xff\x1f\x01z")))
        assert page(memory, 3) == page_of(7)
        assert page(memory, 4) == b"\x08\x08ab" + page_of(8)[4:]
        assert page(memory, 9) == page_of(0)[1:] + b"z"
        assert placer.written[[3, 4, 9]].all()

    def test_one_that_is_not_legal(self, memory: GuestMemory, placer: GuestPlacer) -> None:
        place(placer, {3: 7})
        with pytest.raises(RemoteProtocolError, match="a delta of page 5 that is not legal"):
            placer.delta(deltas((3, b"\x02\x02ab"), (5, b"\x80\x20\x01z")))
        assert page(memory, 3) == page_of(7)
        assert not placer.written[5]
