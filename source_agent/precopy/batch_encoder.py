"""From a batch to its frames: what a `PageSender` needs, and the encoder that changes nothing.

An encoder reads guest memory and knows the formats of frames; it knows no socket and no rate. What
it returns is sent in the order in which it stands there.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pageferry.common.guest.lines import gather
from pageferry.common.guest.memory import GuestMemory
from pageferry.common.units import LINE_SIZE
from pageferry.common.wire import encoder, frames
from pageferry.common.wire.extents import Extents, Pages, cut_pages
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.source_agent.precopy.batches import (
    UNLIMITED_PAGES,
    Batch,
    ChangedLines,
    SentTotals,
    WholePages,
)

Buffers = Sequence[bytes | memoryview]


@dataclass(frozen=True, slots=True)
class PagesInMemory:
    """A PAGES frame whose pages are still in guest memory: the sender reads them there.

    Attributes:
        head: Header and table.
        numbers: The pages, int64[n], sorted.
        extents: The same pages, EXTENT[m].
    """

    head: bytes
    numbers: Pages
    extents: Extents


OutgoingFrame = Buffers | PagesInMemory


@dataclass(slots=True)
class EncodedBatch:
    """What is to be sent of one batch.

    Attributes:
        frames: In the order in which they are sent.
        totals: Everything but `bytes`, which is known only when it has been sent.
    """

    frames: list[OutgoingFrame] = field(default_factory=list)
    totals: SentTotals = field(default_factory=SentTotals)

    def add(self, frame: OutgoingFrame, totals: SentTotals) -> None:
        """Append a frame, and what it counts for.

        Args:
            frame: A whole frame.
            totals: Its pages and lines; `bytes` is 0.
        """
        self.frames.append(frame)
        self.totals += totals

    def add_zeros(self, pages: Pages, *, checked: bool) -> None:
        """Append the marks of pages that are all zero.

        Args:
            pages: int64[n], sorted; may be empty.
            checked: Whether frames end with a checksum.
        """
        for zeros, extents in cut_pages(pages, frames.MAX_EXTENTS):
            frame = encoder.encode_zero(extents, checked=checked)
            self.add([frame], SentTotals(zero_pages=len(zeros)))


class BatchEncoder(Protocol):
    """Makes frames of batches.

    Attributes:
        most_pages: Whole pages that a batch may have where nothing else limits it.
    """

    @property
    def most_pages(self) -> int:
        """Whole pages that a batch may have where nothing else limits it."""
        ...

    def encode(self, batch: Batch) -> EncodedBatch:
        """Encode one batch outside any round, for one thread.

        Args:
            batch: At most `most_pages` whole pages.

        Returns:
            Its frames, valid until the next call.
        """
        ...

    def encode_all(
        self, channel: int, batches: Iterator[Batch]
    ) -> Generator[EncodedBatch, None, None]:
        """Encode what a channel takes in one round, in order.

        If you leave the generator early, close it: afterwards nobody reads guest memory for it.

        Args:
            channel: Which channel asks; each has one thread.
            batches: Is asked for more as there is room for them, ahead of what is sent.

        Yields:
            Each batch's frames, valid until the next ones are asked for.
        """
        ...


def sealed(*parts: bytes | memoryview, checked: bool) -> Buffers:
    """Put the parts of a frame together, with a trailer where frames are checked.

    Args:
        *parts: Header, table and payload; they are not copied.
        checked: Whether frames end with a checksum.

    Returns:
        The frame as buffers.
    """
    return [*parts, encoder.trailer(*parts)] if checked else parts


class PlainEncoder:
    """Encodes pages and lines as they are.

    Args:
        memory: Of the guest; read while batches are encoded and sent.
        stream: Only `checksum` is looked at.
    """

    most_pages = UNLIMITED_PAGES

    def __init__(self, memory: GuestMemory, stream: StreamFormat) -> None:
        self._memory = memory
        self._checked = stream.checksum
        nothing = np.empty(0, np.uint64)
        gather(memory.words, nothing.view(np.int64), nothing, nothing)  # load the kernel now

    def encode(self, batch: Batch) -> EncodedBatch:
        """Encode one batch.

        Args:
            batch: Of any size that `cut_into_batches` makes.

        Returns:
            Its frames; whole pages are still in guest memory.
        """
        if isinstance(batch, WholePages):
            return self._pages(batch.numbers)
        return self._lines(batch, _line_buffer())

    def encode_all(
        self, channel: int, batches: Iterator[Batch]
    ) -> Generator[EncodedBatch, None, None]:
        """Encode batch by batch, as each is asked for.

        Args:
            channel: Not used: there is never more than one batch under way.
            batches: Is asked for the next one when the one before has been sent.

        Yields:
            Each batch's frames; whole pages are still in guest memory.
        """
        del channel  # only one batch of one thread is under way
        buffer: NDArray[np.uint64] | None = None
        for batch in batches:
            if isinstance(batch, WholePages):
                yield self._pages(batch.numbers)
            else:
                buffer = _line_buffer() if buffer is None else buffer
                yield self._lines(batch, buffer)

    def _pages(self, numbers: Pages) -> EncodedBatch:
        out = EncodedBatch()
        zero = self._memory.zero_pages(numbers)
        if zero.any():
            out.add_zeros(numbers[zero], checked=self._checked)
            numbers = numbers[~zero]
        # Zero pages in between cut runs in two, so there may be more runs than in the batch.
        for full, extents in cut_pages(numbers, frames.MAX_EXTENTS):
            head = encoder.encode_pages_head(extents, checked=self._checked)
            out.add(PagesInMemory(head, full, extents), SentTotals(len(full)))
        return out

    def _lines(self, batch: ChangedLines, buffer: NDArray[np.uint64]) -> EncodedBatch:
        """Gather the lines first: a buffer per line would mean thousands of them per frame."""
        out = EncodedBatch()
        lines = gather(self._memory.words, batch.numbers, batch.masks, buffer)
        data = buffer.view(np.uint8)[: lines * LINE_SIZE].data
        head = encoder.encode_lines_head(batch.table, checked=self._checked)
        out.add(
            sealed(head, data, checked=self._checked), SentTotals.by_line(len(batch.table), lines)
        )
        return out


def _line_buffer() -> NDArray[np.uint64]:
    return np.empty(frames.MAX_FRAME_LINES * LINE_SIZE // 8, np.uint64)
