"""A frame's pages in parts that fit a core's cache: copied, summed and sent while they are near.

Pages of a guest that runs are copied before they are summed, because a checksum of memory that a
vCPU writes meanwhile would be wrong. A copy of a whole frame leaves the cache before it is sent,
and costs the memory's bandwidth three times; a part is read from memory once, and summed and sent
from the cache. Of a guest that stands still nothing is copied where pages lie side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.guest.memory import GuestMemory, near_pages
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire import frames
from pageferry.common.wire.extents import Extents, Pages, to_pages

PART_PAGES: Final = 128  # 512 KiB: a part, and what else a core works on, stay in its own cache

Part = list[bytes | memoryview]


class PartMaker:
    """Makes the parts of one channel's frames, one frame at a time.

    checked: frames end with their checksum.
    """

    def __init__(self, memory: GuestMemory, *, checked: bool) -> None:
        self._memory = memory
        self._checked = checked
        self._near: NDArray[np.uint64] = near_pages(PART_PAGES)

    def parts(self, head: bytes, extents: Extents, *, still: bool) -> Iterator[Part]:
        """A frame of these pages, from its head to its end. still: nobody writes guest memory.

        A part is what it is until the next one is asked for.
        """
        numbers = to_pages(extents)
        hasher = frames.begin_checksum(head) if self._checked else None
        part: Part = [head]
        for start in range(0, len(numbers), PART_PAGES):
            if start:
                yield part
                part = []
            data = self._data(numbers[start : start + PART_PAGES], still)
            if hasher is not None:
                hasher.update(data)
            part.append(data)
        if hasher is not None:
            part.append(frames.end_checksum(hasher))
        yield part

    def checksum(self, head: bytes, extents: Extents) -> bytes:
        """What ends the frame of these pages, which nobody writes now."""
        numbers = to_pages(extents)
        hasher = frames.begin_checksum(head)
        for start in range(0, len(numbers), PART_PAGES):
            hasher.update(self._data(numbers[start : start + PART_PAGES], still=True))
        return frames.end_checksum(hasher)

    def _data(self, numbers: Pages, still: bool) -> memoryview:
        """These pages (sorted, `PART_PAGES` at the most) side by side."""
        first, n = int(numbers[0]), len(numbers)
        together = int(numbers[-1]) - first + 1 == n
        if together and still:
            return self._memory.view[first * PAGE_SIZE : (first + n) * PAGE_SIZE]
        near = self._near[:n]
        if together:
            near[:] = self._memory.pages[first : first + n]
        else:
            np.take(self._memory.pages, numbers, axis=0, out=near, mode="clip")
        return near.view(np.uint8).reshape(-1).data
