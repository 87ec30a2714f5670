"""Receiving pages beside guest memory, while the guest runs here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.errors import RemoteProtocolError
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire.extents import Extents
from pageferry.common.wire.frames import DeltaFrame, LinesFrame, PagesFrame, ZeroFrame
from pageferry.common.wire.spans import SpanTable
from pageferry.dest_agent.postcopy.kernel.state import new_thread_scratch

# Places pages (extents) whose contents lie side by side at an address (0 for zeros); the last
# argument is a scratch array of the calling thread.
PlacePages = Callable[[Extents, int, NDArray[np.int64]], None]

_FIRST_BYTES: Final = 1 << 20


class Staging:
    """Receives the frames of one bulk connection beside guest memory, and places them.

    It takes the part of `ChannelPlacer` while the guest runs.

    Args:
        place: Puts a frame's pages in their places, whole, each once.
    """

    def __init__(self, place: PlacePages) -> None:
        self._place = place
        self._bytes = np.empty(_FIRST_BYTES, np.uint8)
        self._scratch = new_thread_scratch()

    def places(self, _extents: Extents) -> SpanTable | None:
        """Refuse guest memory: the kernel, or whoever stops the guest, places a page whole.

        Returns:
            None.
        """
        return None

    def buffers(self, extents: Extents) -> list[memoryview]:
        """Return one buffer for all pages, side by side.

        Args:
            extents: EXTENT[n].

        Returns:
            A list of that buffer, of exactly the pages' size; used until `arrived`.
        """
        size = self.beside(extents)
        if len(self._bytes) < size:
            self._bytes = np.empty(size, np.uint8)
        return [self._bytes.data[:size]]

    def beside(self, extents: Extents) -> int:
        """Return the size of all these pages: every one is received beside guest memory.

        Args:
            extents: EXTENT[n].

        Returns:
            Bytes.
        """
        return int(extents["count"].sum(dtype=np.int64)) * PAGE_SIZE

    def forget(self, most: int) -> None:
        """Replace a buffer that is too large to keep by one of 1 MiB.

        Args:
            most: Bytes that may be kept.
        """
        if len(self._bytes) > most:
            self._bytes = np.empty(_FIRST_BYTES, np.uint8)

    def arrived(self, frame: PagesFrame) -> None:
        """Place the pages that are in our buffer.

        Args:
            frame: All its bytes are there.
        """
        self._place(frame.extents, self._bytes.ctypes.data, self._scratch)

    def zero(self, frame: ZeroFrame) -> None:
        """Place zero pages.

        Args:
            frame: Says which.
        """
        self._place(frame.extents, 0, self._scratch)

    def lines(self, frame: LinesFrame) -> None:
        """Refuse lines: a missing page comes whole.

        Args:
            frame: For the complaint.

        Raises:
            RemoteProtocolError: Always.
        """
        raise RemoteProtocolError(f"{frame.lines} lines of pages came after the guest had resumed")

    def delta(self, frame: DeltaFrame) -> None:
        """Refuse deltas: the page they refer to has been discarded, or changed by the guest.

        Args:
            frame: For the complaint.

        Raises:
            RemoteProtocolError: Always.
        """
        raise RemoteProtocolError(
            f"deltas of {len(frame.table)} pages came after the guest had resumed"
        )
