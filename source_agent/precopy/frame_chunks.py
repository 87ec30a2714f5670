"""A frame's pages in chunks that fit a core's cache: copied, summed and sent while they are near.

While the guest runs, its pages are copied before they are summed, because a checksum of memory that
a vCPU writes meanwhile would be wrong. A copy of a whole frame leaves the cache before it is sent,
and costs three times the memory bandwidth. A chunk is read from memory once, and summed and sent
from the cache. When the guest stands still, pages that lie side by side are not copied.
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

CHUNK_PAGES: Final = 128  # 512 KiB: a chunk and a core's other data stay in its own cache

Chunk = list[bytes | memoryview]


class FrameChunker:
    """Makes the chunks of one channel's frames, one frame at a time.

    Args:
        memory: Of the guest.
        stream: Only `checksum` is looked at.
    """

    def __init__(self, memory: GuestMemory, stream: StreamFormat) -> None:
        self._memory = memory
        self._checked = stream.checksum
        self._near: NDArray[np.uint64] = near_pages(CHUNK_PAGES)

    def chunks(self, head: bytes, numbers: Pages, *, still: bool) -> Iterator[Chunk]:
        """Cut a frame into chunks, from its head to its end.

        Args:
            head: Header and table of the frame.
            numbers: Its pages, int64[n], sorted.
            still: Whether nobody writes guest memory meanwhile.

        Yields:
            Each chunk as buffers, valid until the next one is asked for.
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
        """Compute the trailer of a frame whose pages nobody writes now.

        Args:
            head: Header and table of the frame.
            numbers: Its pages, int64[n], sorted.

        Returns:
            What ends the frame.
        """
        hasher = encoder.begin_checksum(head)
        for start in range(0, len(numbers), CHUNK_PAGES):
            hasher.update(self._data(numbers[start : start + CHUNK_PAGES], still=True))
        return encoder.end_checksum(hasher)

    def _data(self, numbers: Pages, still: bool) -> memoryview:
        """Return these pages (sorted, at most `CHUNK_PAGES`) side by side."""
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
