"""What this host carries over loopback while the guest runs, by the code of a migration.

For a moment, guest memory goes through checksums, frames and TCP as fast as it can, to a receiver
in this process that throws it away. No rate limit applies: on a busy host, by how much a short
probe falls short of a limit says nothing about the average of a migration.
"""

from __future__ import annotations

import math
import socket
import time
from functools import partial
from typing import Final

import numpy as np

from pageferry.common.errors import ConnectionBroken, PageferryError
from pageferry.common.guest.memory import GuestMemory
from pageferry.common.process.threads import WatchedThread
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire.bulk_receiver import BulkReceiver
from pageferry.common.wire.extents import Extents, Pages
from pageferry.common.wire.link_policy import STALL_S
from pageferry.common.wire.pacing import Pacer
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.common.wire.tcp import tune
from pageferry.source_agent.precopy.batches import BATCH_PAGES
from pageferry.source_agent.precopy.page_sender import PageSender

PROBE_S: Final = 0.2


class _Bin:
    """One buffer for whatever arrives."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(BATCH_PAGES * PAGE_SIZE))

    def buffers(self, extents: Extents) -> list[memoryview]:
        """Return buffers side by side, in a place that the next frame overwrites."""
        ends = np.cumsum(extents["count"], dtype=np.int64) * PAGE_SIZE
        starts = ends - extents["count"].astype(np.int64) * PAGE_SIZE
        return [self._buffer[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]


def probe_loopback(memory: GuestMemory, stream: StreamFormat, congestion: str) -> float | None:
    """Measure what loopback carries. Blocks for about `PROBE_S`.

    Args:
        memory: Of the guest, which may run; read, not changed.
        stream: How pages would travel; they are sent without compression and deltas.
        congestion: TCP congestion control to use.

    Returns:
        Bytes/s; None where every page is zero, and none would travel.

    Raises:
        PageferryError: Loopback failed.
    """
    pages = np.flatnonzero(~memory.zero_pages(np.arange(memory.n_pages)))
    if len(pages) == 0:
        return None
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            ours = socket.create_connection(server.getsockname()[:2], timeout=STALL_S)
            theirs, _ = server.accept()
        for sock in (ours, theirs):
            tune(sock, congestion, STALL_S)
            sock.settimeout(None)
    except OSError as error:
        raise PageferryError(f"loopback could not be measured: {error}") from None
    receiver = BulkReceiver(theirs, _Bin(), memory.n_pages, stream=stream)
    page_sender = PageSender(memory, [ours], Pacer(math.inf), stream=stream)
    # An error in the receiver ends the sending, too.
    work = partial(_receive, receiver)
    thread = WatchedThread(work, "probe", lambda _error: page_sender.abort())
    thread.start()
    try:
        return _send(page_sender, pages)
    except PageferryError:
        thread.raise_failure()
        raise
    finally:
        page_sender.close()
        thread.join()
        receiver.close()


def _receive(receiver: BulkReceiver) -> None:
    try:
        receiver.run(lambda _frame: None)
    except ConnectionBroken:
        return  # we hang up ourselves, at any moment


def _send(page_sender: PageSender, pages: Pages) -> float:
    """Send batches of these pages over and over; return bytes/s.

    Only full batches, as small frames say nothing about a link. A guest with little content may
    have written more by the time it is moved.
    """
    pages = np.resize(pages, -(-len(pages) // BATCH_PAGES) * BATCH_PAGES)
    at, sent = 0, 0
    begun = time.monotonic()
    while (elapsed := time.monotonic() - begun) < PROBE_S:
        sent += page_sender.send_batch(pages[at : at + BATCH_PAGES]).bytes
        at = at + BATCH_PAGES if at + BATCH_PAGES < len(pages) else 0
    return sent / elapsed
