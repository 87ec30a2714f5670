"""Frames of batches as they are: exact, legal, and counted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from pageferry.common.guest.memory import GuestMemory
from pageferry.common.units import LINE_SIZE, PAGE_SIZE
from pageferry.common.wire import decoder, encoder, frames
from pageferry.common.wire.extents import Extents, from_pages
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.source_agent.precopy.batch_encoder import EncodedBatch, PagesInMemory, PlainEncoder
from pageferry.source_agent.precopy.batches import (
    UNLIMITED_PAGES,
    ChangedLines,
    RoundPages,
    SentTotals,
    WholePages,
    cut_into_batches,
    joined,
    line_batches,
)
from tests.unit.common.wire.test_decoder import feed

N_PAGES = UNLIMITED_PAGES


@pytest.fixture
def memory() -> Iterator[GuestMemory]:
    memory = GuestMemory(N_PAGES * PAGE_SIZE)
    yield memory
    memory.close()


class Target:
    """A destination's memory, all of it not zero at first."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(b"\xff" * (N_PAGES * PAGE_SIZE)))

    def buffers(self, extents: Extents) -> list[memoryview]:
        return [self.view[f * PAGE_SIZE : (f + c) * PAGE_SIZE] for f, c in extents.tolist()]

    def take(self, memory: GuestMemory, encoded: EncodedBatch, *, checked: bool) -> list[str]:
        """Decode what would have been sent; returns the frames' names."""
        taker = decoder.FrameDecoder(self, n_pages=N_PAGES, stream=StreamFormat(checksum=checked))
        names = []
        for each in encoded.frames:
            if isinstance(each, PagesInMemory):
                parts = [each.head, memory.pages[each.numbers].tobytes()]
                parts += [encoder.trailer(*parts)] if checked else []
            else:
                parts = [bytes(part) for part in each]
            for frame in feed(taker, b"".join(parts), []):
                names.append(type(frame).__name__)
                if isinstance(frame, frames.ZeroFrame):
                    for buffer in self.buffers(frame.extents):
                        buffer[:] = bytes(len(buffer))
        return names


@pytest.mark.parametrize("checked", [False, True])
def test_zero_pages_that_cut_every_run_make_frames_that_are_legal(
    memory: GuestMemory, checked: bool
) -> None:
    """One run of 4096 pages becomes 2048 of one page each, more than a header can name."""
    memory.pages[::2, 5] = 1
    encoder = PlainEncoder(memory, StreamFormat(checksum=checked))
    encoded = encoder.encode(WholePages(np.arange(N_PAGES)))
    there = Target()
    names = there.take(memory, encoded, checked=checked)
    assert names == ["ZeroFrame"] * 3 + ["PagesFrame"] * 3
    assert encoded.totals == SentTotals(N_PAGES // 2, N_PAGES // 2)
    assert there.view == memory.view


def test_pages_are_read_when_they_are_sent_and_not_before(memory: GuestMemory) -> None:
    memory.pages[:, 0] = 1
    (frame,) = (
        PlainEncoder(memory, StreamFormat(checksum=True)).encode(WholePages(np.arange(3, 9))).frames
    )
    assert isinstance(frame, PagesInMemory)
    assert frame.head == encoder.encode_pages_head(from_pages(np.arange(3, 9)), checked=True)
    assert frame.numbers.tolist() == list(range(3, 9))


def test_lines_are_copied_and_what_they_spare_is_counted(memory: GuestMemory) -> None:
    memory.pages[7, 8:16] = 5  # its second line
    table = np.array([(7, 0b10)], frames.LINES_OF)
    encoded = PlainEncoder(memory, StreamFormat()).encode(ChangedLines(table))
    (frame,) = encoded.frames
    assert not isinstance(frame, PagesInMemory)
    head, data = frame
    assert head == encoder.encode_lines_head(table)
    assert bytes(data) == memory.pages[7, 8:16].tobytes()
    saved = (PAGE_SIZE + 8) - (12 + LINE_SIZE)
    assert encoded.totals == SentTotals(1, line_pages=1, lines=1, bytes_saved=saved)


def test_batches_that_nobody_took_are_what_is_left() -> None:
    pages = RoundPages(
        np.array([1, 2, 5, 9]), np.array([3, 7]), np.array([1, 1 << 63 | 5], np.uint64)
    )
    batches = cut_into_batches(pages, most=3)
    first = next(batches)
    assert isinstance(first, WholePages)
    assert first.numbers.tolist() == [1, 2, 5]
    left = joined(batches)
    assert left.whole.tolist() == [9]
    assert left.lined.tolist() == [3, 7]
    assert left.masks.tolist() == pages.masks.tolist()
    assert left.masks.dtype == np.uint64


def test_tables_of_lines_keep_to_what_a_frame_may_carry() -> None:
    lined = np.arange(1000)
    masks = np.full(1000, 2**40 - 1, np.uint64)
    batches = list(line_batches(RoundPages(lined[:0], lined, masks)))
    assert [len(batch.table) for batch in batches] == [409, 409, 182]
    assert np.concatenate([batch.numbers for batch in batches]).tolist() == lined.tolist()
