"""Sending pages: batches of one round, shared out over the bulk channels."""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Final

from pageferry.common.errors import PageferryError
from pageferry.common.guest.memory import GuestMemory
from pageferry.common.process.threads import WatchedThread
from pageferry.common.strategy.converge import EARLY_S, LOOK_S
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire.bulk import BulkSender
from pageferry.common.wire.encoder import encode_barrier
from pageferry.common.wire.extents import Extents, Pages
from pageferry.common.wire.link_policy import DEFAULT, LinkPolicy
from pageferry.common.wire.pacing import Pacer
from pageferry.common.wire.probes import IDLE_S
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.source_agent.precopy.batch_encoder import (
    BatchEncoder,
    EncodedBatch,
    OutgoingFrame,
    PagesInMemory,
    PlainEncoder,
)
from pageferry.source_agent.precopy.batches import (
    BATCH_PAGES,
    Batch,
    RoundPages,
    SentTotals,
    WholePages,
    cut_into_batches,
    joined,
)
from pageferry.source_agent.precopy.frame_chunks import FrameChunker

_PLAINEST: Final = StreamFormat()
_SHORT_RUN: Final = 8  # pages of an extent, on average, below which one copied buffer costs less


def _look_on(jobs: list[Future[SentTotals]], look: Callable[[bool], None]) -> None:
    """Until every channel is through, or one has failed."""
    for early in cycle((True, False)):
        done, going = wait(jobs, EARLY_S if early else LOOK_S - EARLY_S, FIRST_EXCEPTION)
        if not going or any(job.exception() for job in done):
            return
        look(early)


@dataclass(slots=True)
class _Channel:
    """One bulk connection, used by one thread at a time. totals: of the present round."""

    index: int
    sender: BulkSender
    chunker: FrameChunker
    totals: SentTotals


class PageSender:
    """The bulk channels of a session, source end.

    One round at a time. Each channel's thread takes the next batch when it is through with one, so
    that a slow connection does not hold the others up. Pages that are all zero travel as a mark.
    What is sent is what memory holds at that moment, or later where pages go in place: a page that
    the guest writes meanwhile is in the dirty log, and goes again. With checksums that
    moment is before it is sent: see `source_agent.precopy.frame_chunks`.

    Args:
        encoder: makes frames of batches; None: they go as they are.
        tell: hears, on the thread that keeps idle connections open, what has ended it.
    """

    def __init__(
        self,
        memory: GuestMemory,
        sockets: list[socket.socket],
        pacer: Pacer,
        *,
        stream: StreamFormat = _PLAINEST,
        link: LinkPolicy = DEFAULT,
        attempt: int = 0,
        encoder: BatchEncoder | None = None,
        tell: Callable[[PageferryError], None] | None = None,
    ) -> None:
        self._memory = memory
        self._checked = stream.checksum
        self._encoder = encoder or PlainEncoder(memory, stream)
        self._channels = [
            _Channel(
                index,
                BulkSender(sock, pacer, stream=stream, link=link, attempt=attempt),
                FrameChunker(memory, stream),
                SentTotals(),
            )
            for index, sock in enumerate(sockets)
        ]
        self._still = False
        self._threads = ThreadPoolExecutor(len(sockets), thread_name_prefix="bulk")
        self._lock = threading.Lock()
        self._short = threading.Event()
        self._pacer = pacer
        self._turn = 0
        self._closed = threading.Event()
        self._keeper = WatchedThread(self._keep_open, "bulk-keeper", tell)
        self._keeper.start()

    def _keep_open(self) -> None:
        """Idle connections stay open: between rounds, while the guest warms up, in a lazy copy."""
        while not self._closed.wait(IDLE_S / 2):
            for channel in self._channels:
                channel.sender.keep_open()

    def guest_is_still(self, still: bool) -> None:
        """Nobody writes guest memory from now on, or somebody may again; between two rounds."""
        self._still = still

    @property
    def sent_bytes(self) -> int:
        """On all channels so far; grows while a round is under way."""
        return sum(channel.sender.sent_bytes for channel in self._channels)

    @property
    def moved(self) -> SentTotals:
        """What a round that has failed had sent until then, in whole batches."""
        return sum((channel.totals for channel in self._channels), SentTotals())

    def cut_short(self, on: bool) -> None:
        """From any thread. on: a round ends after the batches that are under way; off: no more."""
        if on:
            self._short.set()
        else:
            self._short.clear()

    def send_round(
        self, round_pages: RoundPages, index: int, look: Callable[[bool], None] | None = None
    ) -> tuple[SentTotals, RoundPages]:
        """Send it all, and the round's barrier on every channel; blocks.

        Args:
            look: called every `LOOK_S` meanwhile, and each time (with true) `EARLY_S` later.

        Returns:
            What was sent, and what was left unsent because the round was cut short.

        Raises:
            ConnectionBroken: or what `look` does; the other channels are then aborted too.
        """
        most = self._encoder.most_pages if math.isinf(self._pacer.rate) else BATCH_PAGES
        work = cut_into_batches(round_pages, most=most)
        for channel in self._channels:
            channel.totals = SentTotals()
        jobs = [
            self._threads.submit(self._run_channel, channel, work, index)
            for channel in self._channels
        ]
        try:
            if look is not None:
                _look_on(jobs, look)
            channel_totals = [job.result() for job in jobs]
        except BaseException:
            self.abort()
            for job in jobs:
                job.exception()  # every channel's thread is out of guest memory when this returns
            raise
        return sum(channel_totals, SentTotals()), joined(work)

    def _take(self, work: Iterator[Batch]) -> Batch | None:
        with self._lock:  # a generator must not be entered twice
            return None if self._short.is_set() else next(work, None)

    def _run_channel(self, channel: _Channel, work: Iterator[Batch], index: int) -> SentTotals:
        with self._pacer.sending():
            self._send_batches(channel, iter(partial(self._take, work), None))
            barrier = encode_barrier(index, checked=self._checked)
            return channel.totals + SentTotals(bytes=channel.sender.send([barrier]))

    def _send_batches(self, channel: _Channel, batches: Iterator[Batch]) -> None:
        with contextlib.closing(self._encoder.encode_all(channel.index, batches)) as encoded:
            for batch in encoded:
                channel.totals += self._send(channel, batch)

    def send_batch(self, pages: Pages) -> SentTotals:
        """Push some pages (sorted, int64[n], n at most `BATCH_PAGES`) outside any round.

        On the channels in turn. Blocks; raises `ConnectionBroken`.
        """
        channel = self._channels[self._turn]
        self._turn = (self._turn + 1) % len(self._channels)
        with self._pacer.sending():
            return self._send(channel, self._encoder.encode(WholePages(pages)))

    def _send(self, channel: _Channel, batch: EncodedBatch) -> SentTotals:
        sent = sum(self._send_frame(channel, frame) for frame in batch.frames)
        return batch.totals + SentTotals(bytes=sent)

    def _send_frame(self, channel: _Channel, frame: OutgoingFrame) -> int:
        """Return its bytes. Pages that are still in memory go by the cheapest way that is right."""
        sender, chunker = channel.sender, channel.chunker
        if not isinstance(frame, PagesInMemory):
            return sender.send(frame)
        head, numbers = frame.head, frame.numbers
        if sender.in_place and (self._still or not self._checked):
            end = chunker.checksum(head, numbers) if self._checked else b""
            return sender.send_pages(head, self._memory.address, numbers, end)
        if self._checked or len(numbers) < _SHORT_RUN * len(frame.extents):
            return sender.send_parts(chunker.chunks(head, numbers, still=self._still))
        return sender.send([head, *self._views(frame.extents)])

    def charge(self, n: int) -> None:
        """Bytes that went over another connection count against the rate limit here."""
        if n > 0:
            now = time.monotonic()
            self._pacer.reserve(n, now)
            self._pacer.sent(n, now)

    def _views(self, extents: Extents) -> list[memoryview]:
        view = self._memory.view
        return [
            view[first * PAGE_SIZE : (first + count) * PAGE_SIZE]
            for first, count in extents.tolist()
        ]

    def abort(self) -> None:
        """From any thread: a round that is under way fails at once; idempotent."""
        for channel in self._channels:
            channel.sender.abort()

    def close(self) -> None:
        """After the last round, or after `abort`. Blocks until no thread is in guest memory."""
        self.abort()
        self._closed.set()
        self._keeper.join()
        self._threads.shutdown(wait=True)
        for channel in self._channels:
            channel.sender.close()
