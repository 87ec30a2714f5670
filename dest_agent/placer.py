"""Where arriving pages go before the guest runs: straight into its memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.errors import RemoteProtocolError
from common.guest.delta import apply_deltas
from common.guest.lines import scatter
from common.guest.memory import GuestMemory
from common.units import PAGE_SIZE
from common.wire.extents import Extents
from common.wire.frames import DeltaFrame, LinesFrame, PagesFrame, ZeroFrame


class GuestPlacer:
    """Places pages into memory that no vCPU runs on yet.

    `written`: bool[n_pages], pages that may hold something; a zero page that never did is left
    untouched, so that a sparse guest stays sparse. Each channel's thread writes its own pages; the
    rounds' barriers keep two copies of a page apart. deltas: whether any may come.
    """

    def __init__(self, memory: GuestMemory, *, deltas: bool = False) -> None:
        self._view = memory.view
        self._pages: NDArray[np.uint64] = memory.pages
        self._words: NDArray[np.uint64] = memory.words
        self.written: NDArray[np.bool_] = np.zeros(len(memory.pages), np.bool_)
        nothing = np.empty(0, np.uint64)
        scatter(self._words, nothing.view(np.int64), nothing, nothing)  # loaded now
        self._bytes: NDArray[np.uint8] = memory.words.view(np.uint8)
        if deltas:
            numbers = nothing.view(np.int64)
            apply_deltas(self._bytes, numbers, numbers, nothing.view(np.uint8))

    def buffers(self, extents: Extents) -> list[memoryview]:
        """Guest memory itself, a view an extent."""
        view = self._view
        return [
            view[first * PAGE_SIZE : (first + count) * PAGE_SIZE]
            for first, count in extents.tolist()
        ]

    def arrived(self, frame: PagesFrame) -> None:
        """The frame's bytes are all there."""
        for first, count in frame.extents.tolist():
            self.written[first : first + count] = True

    def zero(self, frame: ZeroFrame) -> None:
        """Make these pages zero."""
        for first, count in frame.extents.tolist():
            span = slice(first, first + count)
            if self.written[span].any():
                self._pages[span] = 0
                self.written[span] = False

    def lines(self, frame: LinesFrame) -> None:
        """Change these lines of pages that have come before."""
        pages, masks = frame.table["page"].astype(np.int64), frame.table["mask"].astype(np.uint64)
        scatter(self._words, pages, masks, frame.data.view(np.uint64))
        self.written[pages] = True

    def delta(self, frame: DeltaFrame) -> None:
        """Change pages as encoded. Raises `RemoteProtocolError`, and has written nothing then."""
        pages, lengths = (frame.table[name].astype(np.int64) for name in ("page", "length"))
        bad = apply_deltas(self._bytes, pages, lengths, frame.data)
        if bad >= 0:
            raise RemoteProtocolError(f"a delta of page {pages[bad]} that is not legal")
        self.written[pages] = True
