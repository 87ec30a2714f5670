"""The source's part while the guest runs at the destination with pages missing.

Two read the paused guest's memory: the page server answers demands on the urgent connection, and a
pusher sends the rest on the bulk connections, from the last demanded page on. One map, which both
write, says which pages have been sent.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.errors import PageferryError
from pageferry.common.guest.memory import GuestMemory
from pageferry.common.wire import bitmap
from pageferry.common.wire.extents import Pages
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.source_agent.postcopy.page_server import PUSHED, UNSENT, PageServer
from pageferry.source_agent.precopy.batches import BATCH_PAGES
from pageferry.source_agent.precopy.page_sender import PageSender

# Small batches: after each one the pusher checks where the guest faults now.
PUSH_PAGES: Final = BATCH_PAGES // 4


class PageSupply:
    """Everything that the destination is still missing, by demand and by push.

    Make it before the downtime: it compiles.

    Args:
        memory: Of the guest.
        rate_Bps: The limit in bytes/s that both keep together; infinity: none.
        stream: How pages travel, as both ends agreed on it.
        tell: Is told what has ended the page server unexpectedly, on its thread.

    Attributes:
        server: The page server.
        pushed: Pages with content that were pushed.
        pushed_bytes: What pushed pages took on the wire.
        zero_pages: Pages without content that were pushed.
    """

    def __init__(
        self,
        memory: GuestMemory,
        rate_Bps: float,
        stream: StreamFormat,
        tell: Callable[[PageferryError], None] | None = None,
    ) -> None:
        bitmap.load_codec()
        self._sent: NDArray[np.uint8] = np.full(memory.n_pages, PUSHED, np.uint8)
        self.server = PageServer(memory, self._sent, rate_Bps=rate_Bps, stream=stream, tell=tell)
        self._stop = threading.Event()
        self._out: Pages = np.zeros(PUSH_PAGES, np.int64)
        self._charged = 0
        self.pushed = self.pushed_bytes = 0
        self.zero_pages = 0

    def set_missing(self, missing: NDArray[np.bool_]) -> None:
        """Set which pages are missing, before anything is served or pushed.

        Args:
            missing: bool[n_pages].
        """
        self._sent[:] = np.where(missing, UNSENT, PUSHED)

    def unsent(self) -> int:
        """Count the pages that have been neither pushed nor pulled.

        Returns:
            How many there are.
        """
        return int(np.count_nonzero(self._sent == UNSENT))

    def push(self, page_sender: PageSender) -> None:
        """Send all that is unsent, one batch after another. Blocks.

        Args:
            page_sender: Of the present attempt.

        Raises:
            ConnectionBroken: A bulk connection broke.
        """
        self._stop.clear()
        page_sender.guest_is_still(True)
        while not self._stop.is_set():
            pages = self.server.take_unsent(self._out)
            if len(pages) == 0:
                return
            urgent = self.server.sent_bytes
            page_sender.charge(urgent - self._charged)
            self._charged = urgent
            totals = page_sender.send_batch(pages)
            self.pushed += totals.pages
            self.pushed_bytes += totals.bytes
            self.zero_pages += totals.zero_pages

    def stop_pushing(self) -> None:
        """Make `push` return after its batch; from any thread."""
        self._stop.set()

    def close(self) -> None:
        """Close the page server; idempotent."""
        self.server.close()
