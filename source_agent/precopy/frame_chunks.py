"""A frame's pages in chunks that fit a core's cache: copied, summed and sent while they are near.

Pages of a guest that runs are copied before they are summed, because a checksum of memory that a
vCPU writes meanwhile would be wrong. A copy of a whole frame leaves the cache before it is sent,
and costs the memory's bandwidth three times; a chunk is read from memory once, and summed and sent
from the cache. Of a guest that stands still nothing is copied where pages lie side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.guest.memory import GuestMemory, near_pages
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire import encoder
from pageferry.common.wire.extents import Pages
from pageferry.common.wire.stream_format import StreamFormat

CHUNK_PAGES: Final = 128  # 512 KiB: a chunk, and what else a core works on, stay in its own cache

Chunk = list[bytes | memoryview]


class FrameChunker:
    """Makes the chunks of one channel's frames, one frame at a time."""

    def __init__(self, memory: GuestMemory, stream: StreamFormat) -> None:
        self._memory = memory
        self._checked = stream.checksum
        self._near: NDArray[np.uint64] = near_pages(CHUNK_PAGES)

    def chunks(self, head: bytes, numbers: Pages, *, still: bool) -> Iterator[Chunk]:
        """Yield a frame of these pages (int64[n], sorted), from its head to its end.

        A chunk is what it is until the next one is asked for.

        Args:
            still: nobody writes guest memory.
        """
        hasher = encoder.begin_checksum(head) if self._checked else None
        chunk: Chunk = [head]
        for start in range(0, len(numbers), CHUNK_PAGES):
            if start:
                yield chunk
                chunk = []
            data = self._data(numbers[start : start + CHUNK_PAGES], still)
            if hasher is not None:
                hasher.update(data)
            chunk.append(data)
        if hasher is not None:
            chunk.append(encoder.end_checksum(hasher))
        yield chunk

    def checksum(self, head: bytes, numbers: Pages) -> bytes:
        """Return what ends the frame of these pages, which nobody writes now."""
        hasher = encoder.begin_checksum(head)
        for start in range(0, len(numbers), CHUNK_PAGES):
            hasher.update(self._data(numbers[start : start + CHUNK_PAGES], still=True))
        return encoder.end_checksum(hasher)

    def _data(self, numbers: Pages, still: bool) -> memoryview:
        """Return these pages (sorted, `CHUNK_PAGES` at the most) side by side."""
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
