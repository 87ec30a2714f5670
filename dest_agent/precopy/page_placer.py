"""Where arriving pages go before the guest runs: into its memory.

Scattered ones come by way of a buffer beside it, unless they have no checksum and may go directly.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.errors import RemoteProtocolError
from pageferry.common.guest.delta import apply_deltas
from pageferry.common.guest.lines import scatter
from pageferry.common.guest.memory import GuestMemory, near_pages
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire.extents import Extents, to_pages
from pageferry.common.wire.frames import DeltaFrame, LinesFrame, PagesFrame, ZeroFrame
from pageferry.common.wire.spans import SpanTable, span_table

# Below so many pages an extent, on average, one buffer and a copy are cheaper than a buffer for
# each extent: every buffer is listed for every read, and summed by itself.
_SHORT_RUN: Final = 8
_NEAR_PAGES: Final = 256  # at first


def _scattered(pages: int, extents: Extents) -> bool:
    return pages < _SHORT_RUN * len(extents)


class GuestPlacer:
    """What is known about memory that no vCPU runs on yet, for the placers of all channels.

    Args:
        memory: The guest's; owned by the guest.
        deltas: Whether deltas may come, so that their kernel is loaded now.

    Attributes:
        memory: As given.
        written: bool[n_pages], pages that may hold something. A zero page that never did is left
            untouched, so that a sparse guest stays sparse.
    """

    def __init__(self, memory: GuestMemory, *, deltas: bool = False) -> None:
        self.memory = memory
        self.written: NDArray[np.bool_] = np.zeros(memory.n_pages, np.bool_)
        self._populated: NDArray[np.bool_] | None = None
        nothing = np.empty(0, np.uint64)
        scatter(memory.words, nothing.view(np.int64), nothing, nothing)  # loaded now
        memory.put_pages(nothing.view(np.int64), nothing)
        if deltas:
            numbers = nothing.view(np.int64)
            apply_deltas(memory.words.view(np.uint8), numbers, numbers, nothing.view(np.uint8))

    def expect(self, pages: NDArray[np.bool_]) -> None:
        """Have pages in memory before they come: they do not fault then.

        Args:
            pages: bool[n_pages]; kept, not copied.
        """
        self.memory.populate(pages)
        self._populated = pages

    def forget_unwritten(self) -> None:
        """Give back the pages that were expected and did not come by the end of the first round.

        Whatever goes missing later is discarded within the downtime: it had better be little.
        """
        if self._populated is not None:
            self.memory.discard(self._populated & ~self.written)
            self._populated = None

    @property
    def in_memory(self) -> NDArray[np.bool_]:
        """bool[n_pages]: pages that a fault would not find missing."""
        return self.written if self._populated is None else self.written | self._populated

    def channel(self) -> ChannelPlacer:
        """Make the placer of one channel.

        Returns:
            For one receiving thread.
        """
        return ChannelPlacer(self)


class ChannelPlacer:
    """Places one channel's pages; the rounds' barriers keep two copies of a page apart.

    Args:
        placer: Shared by all channels.

    Attributes:
        memory: The guest's.
        written: The placer's, which this changes.
    """

    def __init__(self, placer: GuestPlacer) -> None:
        memory = self.memory = placer.memory
        self.written = placer.written
        self._view = memory.view
        self._pages: NDArray[np.uint64] = memory.pages
        self._near: NDArray[np.uint64] | None = None  # most channels never need it
        self._beside = False  # whether the frame under way is received into that

    def places(self, extents: Extents) -> SpanTable | None:
        """Return the places of scattered pages in guest memory; others are a few buffers at most.

        Args:
            extents: EXTENT[n], checked against the guest.

        Returns:
            None for pages that do not lie scattered: see `buffers`.
        """
        self._beside = False
        if int(extents["count"].sum(dtype=np.int64)) >= _SHORT_RUN * len(extents):
            return None
        first, count = (extents[name].astype(np.int64) for name in ("first", "count"))
        return span_table(self.memory.address, first, count)

    def buffers(self, extents: Extents) -> list[memoryview]:
        """Return views of guest memory, one an extent; for scattered pages one buffer beside it.

        Args:
            extents: EXTENT[n], checked against the guest.

        Returns:
            Writable, in order, together of exactly the pages' size; used until `arrived`.
        """
        pages = int(extents["count"].sum(dtype=np.int64))
        self._beside = _scattered(pages, extents)
        if self._beside:
            if self._near is None or len(self._near) < pages:
                self._near = near_pages(max(pages, _NEAR_PAGES))
            return [self._near.view(np.uint8).reshape(-1).data[: pages * PAGE_SIZE]]
        view = self._view
        return [
            view[first * PAGE_SIZE : (first + count) * PAGE_SIZE]
            for first, count in extents.tolist()
        ]

    def beside(self, extents: Extents) -> int:
        """Return the size of the buffer for these pages, if they are scattered.

        Args:
            extents: EXTENT[n], checked against the guest.

        Returns:
            Bytes; 0 for pages that are received in guest memory.
        """
        pages = int(extents["count"].sum(dtype=np.int64))
        return pages * PAGE_SIZE if _scattered(pages, extents) else 0

    def forget(self, most: int) -> None:
        """Drop a buffer that is too large to keep.

        Args:
            most: Bytes that may be kept.
        """
        if self._near is not None and self._near.nbytes > most:
            self._near = None

    def arrived(self, frame: PagesFrame) -> None:
        """Place a frame of pages if they are not in guest memory yet, and mark them as written.

        Args:
            frame: All its bytes are in `buffers`, or at `places`.
        """
        if self._beside and self._near is not None:
            pages = to_pages(frame.extents)
            self.memory.put_pages(pages, self._near.reshape(-1))
            self.written[pages] = True
            return
        if _scattered(frame.pages, frame.extents):
            self.written[to_pages(frame.extents)] = True
            return
        for first, count in frame.extents.tolist():
            self.written[first : first + count] = True

    def zero(self, frame: ZeroFrame) -> None:
        """Make pages zero, where they may hold something.

        Args:
            frame: Says which.
        """
        pages = to_pages(frame.extents)
        held = pages[self.written[pages]]
        if len(held):
            self._pages[held] = 0
            self.written[held] = False

    def lines(self, frame: LinesFrame) -> None:
        """Change lines of pages that have come before.

        Args:
            frame: Its table and the lines' contents; both are copied from.
        """
        pages, masks = frame.table["page"].astype(np.int64), frame.table["mask"].astype(np.uint64)
        scatter(self.memory.words, pages, masks, frame.data.view(np.uint64))
        self.written[pages] = True

    def delta(self, frame: DeltaFrame) -> None:
        """Change pages as encoded.

        Args:
            frame: Its table and the encodings.

        Raises:
            RemoteProtocolError: An encoding is not legal; nothing of the frame has been written.
        """
        pages, lengths = (frame.table[name].astype(np.int64) for name in ("page", "length"))
        bad = apply_deltas(self.memory.words.view(np.uint8), pages, lengths, frame.data)
        if bad >= 0:
            raise RemoteProtocolError(f"a delta of page {pages[bad]} that is not legal")
        self.written[pages] = True
