"""What a trace consists of: its working set over time, and its hottest pages."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from pageferry.common.files.memory_trace import LINE_SHIFT, PAGE_SHIFT, MemoryTrace
from pageferry.common.guest.jit import kernel
from pageferry.common.guest.native import signed

PARTS: Final = 10
HOTTEST: Final = 5

_TOUCHED, _WRITTEN, _FIRST, _WRITES = range(4)


class TracePart(BaseModel):
    """A stretch of a trace.

    Attributes:
        accesses: How many it has.
        writes: How many of them write.
        pages: That it touches.
        pages_written: That it writes to.
        new_pages: That no earlier stretch has touched.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    accesses: int
    writes: int
    pages: int
    pages_written: int
    new_pages: int


class HotTracePage(BaseModel):
    """A page and how often it is accessed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    page: int
    accesses: int
    writes: int
    share: float = Field(description="of all accesses")


class TraceStats(BaseModel):
    """What is not in a trace's metadata.

    Attributes:
        lines: 64-byte lines that are touched, of all pages.
        pages_written: That are written to at all.
        parts: Up to `PARTS` stretches of equal length, in order.
        hottest: Up to `HOTTEST` pages, the most accessed first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    lines: int
    pages_written: int
    parts: list[TracePart]
    hottest: list[HotTracePage]


@kernel
def _count(
    accesses: NDArray[np.uint32],
    part: int,
    counts: NDArray[np.int64],
    writes: NDArray[np.int64],
    lines: NDArray[np.uint64],
    last: NDArray[np.int8],
    last_written: NDArray[np.int8],
    seen: NDArray[np.int64],
) -> bool:
    """Add a part's accesses to what is known of each page; False: a page is beyond them."""
    for access in accesses:
        page, write = signed(access >> PAGE_SHIFT), signed(access & 1)
        if page >= len(counts):
            return False
        seen[_FIRST] += counts[page] == 0
        seen[_TOUCHED] += last[page] != part
        seen[_WRITTEN] += write and last_written[page] != part
        seen[_WRITES] += write
        counts[page] += 1
        writes[page] += write
        lines[page] |= np.uint64(1) << np.uint64((access >> LINE_SHIFT) & 63)
        last[page] = part
        if write:
            last_written[page] = part
    return True


def count_accesses(trace: MemoryTrace) -> TraceStats | None:
    """Read a trace once, and count.

    Args:
        trace: Need not have been verified.

    Returns:
        The counts; None if it has a page that its metadata do not have.
    """
    total, pages = trace.meta.accesses, trace.meta.pages
    counts, writes = np.zeros(pages, np.int64), np.zeros(pages, np.int64)
    lines = np.zeros(pages, np.uint64)
    last, last_written = np.full(pages, -1, np.int8), np.full(pages, -1, np.int8)
    parts, stretches = [], min(PARTS, total)
    for part in range(stretches):
        first, end = total * part // stretches, total * (part + 1) // stretches
        seen = np.zeros(4, np.int64)
        if not _count(
            trace.accesses[first:end], part, counts, writes, lines, last, last_written, seen
        ):
            return None
        parts.append(
            TracePart(
                accesses=end - first,
                writes=int(seen[_WRITES]),
                pages=int(seen[_TOUCHED]),
                pages_written=int(seen[_WRITTEN]),
                new_pages=int(seen[_FIRST]),
            )
        )
    return TraceStats(
        lines=int(np.bitwise_count(lines).sum()),
        pages_written=int(np.count_nonzero(writes)),
        parts=parts,
        hottest=[
            HotTracePage(
                page=int(page),
                accesses=int(counts[page]),
                writes=int(writes[page]),
                share=int(counts[page]) / total,
            )
            for page in np.argsort(-counts, kind="stable")[:HOTTEST]
        ],
    )
