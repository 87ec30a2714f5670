"""Where the payload of a frame goes: to the pages themselves, or to a buffer on the way there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pageferry.common.units import LINE_SIZE, PAGE_SIZE
from pageferry.common.wire.budget import SMALL_BYTES, BudgetShare
from pageferry.common.wire.extents import Extents
from pageferry.common.wire.frames import MAX_FRAME_LINES
from pageferry.common.wire.packing import Unpacker, fill_buffers
from pageferry.common.wire.spans import Spans, SpanTable


class Placer(Protocol):
    """Knows where page bytes belong."""

    def buffers(self, extents: Extents) -> list[memoryview]:
        """Return where the content of pages is to be written.

        Args:
            extents: EXTENT[m], all of them the guest's.

        Returns:
            Writable buffers, in the pages' order, together of exactly their size.
        """
        ...


@dataclass(slots=True)
class Content:
    """Where payloads go: to their pages, or to buffers that are kept from frame to frame.

    Fresh memory costs more than its use. Most connections never need those buffers.

    Attributes:
        placer: Knows where pages belong; None: frames of pages are refused.
        places: Where pages of these extents are, or None where they go elsewhere first; None: none
            is received straight into guest memory.
        unpacker: Decompresses payloads; None: no codec was agreed.
        share: From which large frames draw; None: there is no bound.
    """

    placer: Placer | None
    places: Callable[[Extents], SpanTable | None] | None
    unpacker: Unpacker | None
    share: BudgetShare | None
    _lines: NDArray[np.uint8] = field(init=False, default_factory=lambda: np.empty(0, np.uint8))
    _payload: NDArray[np.uint8] = field(init=False, default_factory=lambda: np.empty(0, np.uint8))

    def of_pages(self, extents: Extents, pages: int) -> Payload:
        """Return the places of pages that come as they are.

        Args:
            extents: EXTENT[m].
            pages: Their number.

        Returns:
            Guest memory itself as spans, or the placer's buffers.
        """
        table = None if self.places is None else self.places(extents)
        if table is not None:
            return Payload(pages * PAGE_SIZE, [], Spans(table))
        assert self.placer is not None  # noqa: S101 - the header was refused otherwise
        return Payload(pages * PAGE_SIZE, self.placer.buffers(extents))

    def line_room(self, n: int) -> NDArray[np.uint8]:
        """Return room for lines, in a buffer that is used again for the next frame.

        Args:
            n: Bytes.

        Returns:
            uint8[n].
        """
        if len(self._lines) < n:
            self._lines = np.empty(max(n, MAX_FRAME_LINES * LINE_SIZE), np.uint8)
        return self._lines[:n]

    def payload_room(self, n: int) -> NDArray[np.uint8]:
        """Return room for a compressed or encoded payload, in a buffer that is used again.

        Args:
            n: Bytes.

        Returns:
            uint8[n].
        """
        if len(self._payload) < n:
            self._payload = np.empty(1 << (n - 1).bit_length(), np.uint8)
        return self._payload[:n]

    def unpack_pages(self, data: memoryview, extents: Extents, pages: int) -> None:
        """Put the content of a compressed payload where its pages belong, and keep no large buffer.

        Args:
            data: The payload.
            extents: EXTENT[m] that are in it.
            pages: Their number.

        Raises:
            RemoteProtocolError: If it does not become that many pages.
        """
        assert self.placer is not None  # noqa: S101 - the header was refused otherwise
        assert self.unpacker is not None  # noqa: S101 - likewise
        unpacked = self.unpacker.unpack(data, pages * PAGE_SIZE)
        if len(self._payload) > SMALL_BYTES:
            self._payload = np.empty(0, np.uint8)
        fill_buffers(unpacked, self.placer.buffers(extents))

    def unpack_lines(self, data: memoryview, lines: int) -> NDArray[np.uint8]:
        """Return the lines in a compressed payload.

        Args:
            data: The payload.
            lines: Their number.

        Returns:
            uint8[64 * lines], in the buffer of `line_room`.

        Raises:
            RemoteProtocolError: If it does not become that many lines.
        """
        assert self.unpacker is not None  # noqa: S101 - the header was refused otherwise
        # Copied: for compiled code read-only memory has another type, and the code for that would
        # be compiled or loaded here, which with few lines left is in the downtime.
        unpacked = self.unpacker.unpack(data, lines * LINE_SIZE)
        room = self.line_room(len(unpacked))
        room[:] = unpacked
        return room

    def draw(self, n: int) -> None:
        """Wait until the present frame may hold that much; at once without a share.

        Args:
            n: Bytes.
        """
        if self.share is not None:
            self.share.take(n)


class Payload(NamedTuple):
    """Where what follows a table belongs.

    Attributes:
        size: Its bytes.
        buffers: Where it belongs, unless there are spans.
        spans: Likewise; None: in the buffers.
    """

    size: int
    buffers: list[memoryview]
    spans: Spans | None = None
