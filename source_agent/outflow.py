"""Sending pages: batches of one round, shared out over the bulk channels."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.guest.memory import GuestMemory
from common.units import PAGE_SIZE
from common.wire import frames
from common.wire.channel import BulkSender
from common.wire.extents import Extents, Pages, batches, from_pages, to_pages
from common.wire.pacing import Pacer

# 1 MiB a frame: large enough for its header not to count, small enough to share out evenly.
BATCH_PAGES = 256


@dataclass(frozen=True, slots=True)
class Tally:
    """What one round put on the bulk channels. bytes: headers included."""

    pages: int
    zero_pages: int
    bytes: int


class Outflow:
    """The bulk channels of a session, source end.

    One round at a time. Each channel's thread takes the next batch when it is through with one, so
    that a slow connection does not hold the others up. Pages that are all zero travel as a mark.
    What is sent is what memory holds at that moment: a page that the guest writes meanwhile is in
    the dirty log, and goes again.
    """

    def __init__(self, memory: GuestMemory, sockets: list[socket.socket], pacer: Pacer) -> None:
        self._memory = memory
        self._senders = [BulkSender(sock, pacer) for sock in sockets]
        self._threads = ThreadPoolExecutor(len(sockets), thread_name_prefix="bulk")
        self._lock = threading.Lock()
        self._pacer = pacer
        self._turn = 0

    @property
    def sent_bytes(self) -> int:
        """On all channels so far; grows while a round is under way."""
        return sum(sender.sent_bytes for sender in self._senders)

    def send_round(self, pages: Pages, index: int) -> Tally:
        """Send these pages (sorted, int64[n]) and the round's barrier on every channel.

        Blocks. Raises `ConnectionBroken`; the other channels are then aborted too.
        """
        work = batches(pages, max_pages=BATCH_PAGES, max_extents=frames.MAX_EXTENTS)
        jobs = [
            self._threads.submit(self._run_channel, sender, work, index) for sender in self._senders
        ]
        try:
            tallies = [job.result() for job in jobs]
        except BaseException:
            self.abort()
            for job in jobs:
                job.exception()  # every channel's thread is out of guest memory when this returns
            raise
        return Tally(
            pages=sum(tally.pages for tally in tallies),
            zero_pages=sum(tally.zero_pages for tally in tallies),
            bytes=sum(tally.bytes for tally in tallies),
        )

    def _run_channel(self, sender: BulkSender, work: Iterator[Extents], index: int) -> Tally:
        pages = zero_pages = sent = 0
        while True:
            with self._lock:  # a generator must not be entered twice
                extents = next(work, None)
            if extents is None:
                break
            tally = self._send_extents(sender, extents)
            pages, zero_pages = pages + tally.pages, zero_pages + tally.zero_pages
            sent += tally.bytes
        sent += sender.send([frames.encode_barrier(index)])
        return Tally(pages, zero_pages, sent)

    def _send_extents(self, sender: BulkSender, extents: Extents) -> Tally:
        pages = zero_pages = sent = 0
        full, zero = self._split_zero(extents)
        if len(zero):
            sent += sender.send([frames.encode_zero(zero)])
            zero_pages = int(zero["count"].sum())
        if len(full):
            sent += sender.send([frames.encode_pages_head(full), *self._views(full)])
            pages = int(full["count"].sum())
        return Tally(pages, zero_pages, sent)

    def send_batch(self, pages: Pages) -> Tally:
        """Push some pages (sorted, int64[n], n at most `BATCH_PAGES`) outside any round.

        On the channels in turn. Blocks; raises `ConnectionBroken`.
        """
        sender = self._senders[self._turn]
        self._turn = (self._turn + 1) % len(self._senders)
        return self._send_extents(sender, from_pages(pages))

    def charge(self, n: int) -> None:
        """Bytes that went over another connection count against the rate limit here."""
        if n > 0:
            self._pacer.reserve(n, time.monotonic())

    def _split_zero(self, extents: Extents) -> tuple[Extents, Extents]:
        """Pages with content, and those without."""
        numbers = to_pages(extents)
        zero: NDArray[np.bool_] = self._memory.zero_pages(numbers)
        if not zero.any():
            return extents, extents[:0]
        return from_pages(numbers[~zero]), from_pages(numbers[zero])

    def _views(self, extents: Extents) -> list[memoryview]:
        view = self._memory.view
        return [
            view[first * PAGE_SIZE : (first + count) * PAGE_SIZE]
            for first, count in extents.tolist()
        ]

    def abort(self) -> None:
        """From any thread: a round that is under way fails at once; idempotent."""
        for sender in self._senders:
            sender.abort()

    def close(self) -> None:
        """After the last round, or after `abort`. Blocks until no thread is in guest memory."""
        self.abort()
        self._threads.shutdown(wait=True)
        for sender in self._senders:
            sender.close()
