"""What a round sends, cut into batches: page numbers, until a frame's header is encoded.

    RoundPages    all that a round is to send
    Batch         a part of it that one channel takes: WholePages or ChangedLines
    SentTotals    what became of it on the wire

A channel takes the next batch when it has finished one. So a batch is also the unit in which the
work is shared out, and in which a round that is cut short ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.units import LINE_SIZE, PAGE_SIZE
from pageferry.common.wire import frames
from pageferry.common.wire.extents import EXTENT, Pages, cut_pages

# Pages per frame. 1 MiB is large enough for its header not to count, and small enough to share out
# evenly. Where nothing limits the rate, what Python does for a frame counts, too.
BATCH_PAGES: Final = 256
UNLIMITED_PAGES: Final = frames.MAX_FRAME_PAGES
_LINE_PAGES: Final = 4096  # per frame; its header could say 65535

LineMasks = NDArray[np.uint64]

_NO_PAGES: Final[Pages] = np.empty(0, np.int64)
_NO_MASKS: Final[LineMasks] = np.empty(0, np.uint64)


@dataclass(frozen=True, slots=True)
class RoundPages:
    """What a round sends; no page is in both parts.

    Attributes:
        whole: Pages that travel whole, int64[n], sorted.
        lined: Pages of which only some lines travel, int64[m], sorted.
        masks: Those lines, uint64[m]; the lowest bit is a page's first 64 bytes.
    """

    whole: Pages
    lined: Pages = field(default_factory=lambda: _NO_PAGES)
    masks: LineMasks = field(default_factory=lambda: _NO_MASKS)


@dataclass(frozen=True, slots=True)
class WholePages:
    """Pages that travel whole.

    Attributes:
        numbers: int64[n], sorted, in at most `MAX_EXTENTS` runs.
    """

    numbers: Pages


@dataclass(frozen=True, slots=True)
class ChangedLines:
    """Pages of which some lines travel.

    Attributes:
        table: LINES_OF[n], as it stands in the frame.
    """

    table: frames.LineTable

    @property
    def numbers(self) -> Pages:
        """The pages, int64[n], sorted."""
        return self.table["page"].astype(np.int64)

    @property
    def masks(self) -> LineMasks:
        """Each page's lines, uint64[n]."""
        return self.table["mask"].astype(np.uint64)


Batch = WholePages | ChangedLines


@dataclass(frozen=True, slots=True)
class SentTotals:
    """What one round put on the bulk channels.

    Attributes:
        pages: Pages with content, sent whole, by line or as a delta.
        zero_pages: Pages that went as a mark.
        bytes: On the wire, headers included.
        line_pages: Of `pages`, those that went by line.
        lines: The 64-byte lines that those sent.
        bytes_saved: What those would have cost more as whole pages.
        delta_pages: Of `pages`, those that went as a delta.
    """

    pages: int = 0
    zero_pages: int = 0
    bytes: int = 0
    line_pages: int = 0
    lines: int = 0
    bytes_saved: int = 0
    delta_pages: int = 0

    def __add__(self, other: SentTotals) -> SentTotals:
        return SentTotals(
            self.pages + other.pages,
            self.zero_pages + other.zero_pages,
            self.bytes + other.bytes,
            self.line_pages + other.line_pages,
            self.lines + other.lines,
            self.bytes_saved + other.bytes_saved,
            self.delta_pages + other.delta_pages,
        )

    @classmethod
    def by_line(cls, pages: int, lines: int) -> SentTotals:
        """Count pages that went by line; the sender adds `bytes`.

        Args:
            pages: How many went by line.
            lines: How many 64-byte lines they sent, all together.

        Returns:
            Their totals, without `bytes`.
        """
        saved = uncompressed_bytes(pages) - uncompressed_bytes(0, pages, lines)
        return cls(pages, line_pages=pages, lines=lines, bytes_saved=saved)


def uncompressed_bytes(whole: int, lined: int = 0, lines: int = 0) -> int:
    """Compute what stale pages cost on the wire, without the headers of frames.

    Each page counts with an extent of its own, as if none had a neighbour.

    Args:
        whole: Pages that travel whole.
        lined: Pages of which only some lines travel.
        lines: How many 64-byte lines those are, all together.

    Returns:
        Bytes, without compression and deltas.
    """
    by_line = lined * frames.LINES_OF.itemsize + lines * LINE_SIZE
    return whole * (PAGE_SIZE + EXTENT.itemsize) + by_line


def cut_into_batches(round_pages: RoundPages, *, most: int) -> Iterator[Batch]:
    """Cut a round into batches, whole pages first.

    Args:
        round_pages: What the round is to send.
        most: Whole pages that a batch may have.

    Returns:
        An iterator for one thread at a time: it may be a running generator.
    """
    return chain(_whole_batches(round_pages.whole, most), line_batches(round_pages))


def _whole_batches(pages: Pages, most: int) -> Iterator[WholePages]:
    for start in range(0, len(pages), most):
        for numbers, _ in cut_pages(pages[start : start + most], frames.MAX_EXTENTS):
            yield WholePages(numbers)


def line_batches(round_pages: RoundPages) -> Iterator[ChangedLines]:
    """Cut a round's pages that travel by line into batches.

    Args:
        round_pages: What the round is to send; its whole pages are ignored.

    Yields:
        Batches of at most `MAX_FRAME_LINES` lines.
    """
    ends = np.cumsum(np.bitwise_count(round_pages.masks), dtype=np.int64)
    first = 0
    while first < len(ends):
        before = int(ends[first - 1]) if first else 0
        last = int(np.searchsorted(ends, before + frames.MAX_FRAME_LINES, side="right"))
        last = min(last, first + _LINE_PAGES)
        table = np.empty(last - first, frames.LINES_OF)
        table["page"] = round_pages.lined[first:last]
        table["mask"] = round_pages.masks[first:last]
        yield ChangedLines(table)
        first = last


def joined(batches: Iterator[Batch]) -> RoundPages:
    """Put batches together again.

    Args:
        batches: Is read to its end.

    Returns:
        What they would have sent.
    """
    whole, lined, masks = [_NO_PAGES], [_NO_PAGES], [_NO_MASKS]
    for batch in batches:
        if isinstance(batch, WholePages):
            whole.append(batch.numbers)
        else:
            lined.append(batch.numbers)
            masks.append(batch.masks)
    return RoundPages(np.concatenate(whole), np.concatenate(lined), np.concatenate(masks))
