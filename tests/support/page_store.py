"""A guest's memory that bulk receivers place pages in; pages that no frame names stay 0xee."""

from __future__ import annotations

import numpy as np

from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire.extents import Extents


class PageStore:
    """memory: uint8[n_pages, 4096]."""

    def __init__(self, n_pages: int) -> None:
        self.memory = np.full((n_pages, PAGE_SIZE), 0xEE, np.uint8)

    def buffers(self, extents: Extents) -> list[memoryview]:
        """Where pages of these extents go."""
        view = self.memory.reshape(-1).data
        return [view[f * PAGE_SIZE : (f + c) * PAGE_SIZE] for f, c in extents.tolist()]
