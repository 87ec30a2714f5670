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
from pageferry.common.wire.bulk_sender import BulkSender
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
_SHORT_RUN: Final = 8  # average pages per extent below which one copied buffer costs less


def _look_on(jobs: list[Future[SentTotals]], look: Callable[[bool], None]) -> None:
    """Call `look` from time to time until every channel has finished, or one has failed."""
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

    It sends one round at a time. Each channel's thread takes the next batch when it has finished
    one, so that a slow connection does not hold the others up. Pages that are all zero travel as a
    mark. What is sent is what memory holds at that moment, or later where pages are sent in place:
    a page that the guest writes meanwhile is in the dirty log, and is sent again. With checksums
    that moment is before it is sent: see `source_agent.precopy.frame_chunks`.

    Args:
        memory: Of the guest.
        sockets: Bulk connections, one for each channel; `close` closes them.
        pacer: The rate limit that they share.
        stream: How pages travel, as both ends agreed on it.
        link: How the session treats its connections.
        attempt: Which of the session's attempts the connections belong to.
        encoder: Makes frames of batches and is closed by its owner; None: pages go as they are.
        tell: Is told what ends the thread that keeps idle connections open, on that thread.
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
        """Keep idle connections open: between rounds, while the guest warms up, in a lazy copy."""
        while not self._closed.wait(IDLE_S / 2):
            for channel in self._channels:
                channel.sender.keep_open()

    def guest_is_still(self, still: bool) -> None:
        """Say whether anybody may write guest memory from now on; only between two rounds.

        Args:
            still: True: nobody writes it.
        """
        self._still = still

    @property
    def sent_bytes(self) -> int:
        """Bytes on all channels so far; grows while a round is under way."""
        return sum(channel.sender.sent_bytes for channel in self._channels)

    @property
    def moved(self) -> SentTotals:
        """What a round that failed had sent by then, in whole batches."""
        return sum((channel.totals for channel in self._channels), SentTotals())

    def cut_short(self, on: bool) -> None:
        """Cut rounds short from now on, or no longer; from any thread.

        Args:
            on: True: a round ends after the batches that are under way. False: it sends all.
        """
        if on:
            self._short.set()
        else:
            self._short.clear()

    def send_round(
        self, round_pages: RoundPages, index: int, look: Callable[[bool], None] | None = None
    ) -> tuple[SentTotals, RoundPages]:
        """Send all of a round, and its barrier on every channel; blocks.

        Args:
            round_pages: What to send; its arrays must stay as they are until this returns.
            index: The barrier's number.
            look: Is called on this thread with True `EARLY_S` after the beginning of each `LOOK_S`
                of the round, and with False at the end of it; None: nobody looks.

        Returns:
            What was sent, and what was left unsent because the round was cut short.

        Raises:
            ConnectionBroken: A channel broke. This error, like any that `look` raises, aborts the
                other channels, too.
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
        """Send some pages outside any round, on the channels in turn. Blocks.

        Args:
            pages: int64[n], sorted, at most `BATCH_PAGES`.

        Returns:
            What was sent.

        Raises:
            ConnectionBroken: The channel broke.
        """
        channel = self._channels[self._turn]
        self._turn = (self._turn + 1) % len(self._channels)
        with self._pacer.sending():
            return self._send(channel, self._encoder.encode(WholePages(pages)))

    def _send(self, channel: _Channel, batch: EncodedBatch) -> SentTotals:
        sent = sum(self._send_frame(channel, frame) for frame in batch.frames)
        return batch.totals + SentTotals(bytes=sent)

    def _send_frame(self, channel: _Channel, frame: OutgoingFrame) -> int:
        """Send a frame and return its bytes; pages in memory go the cheapest way that is right."""
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
        """Count what went over another connection against the rate limit here.

        Args:
            n: Bytes; nothing is counted for 0 or less.
        """
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
        """Make a round that is under way fail at once; idempotent, from any thread."""
        for channel in self._channels:
            channel.sender.abort()

    def close(self) -> None:
        """Close the connections, after the last round or after `abort`.

        Blocks until no thread is in guest memory.
        """
        self.abort()
        self._closed.set()
        self._keeper.join()
        self._threads.shutdown(wait=True)
        for channel in self._channels:
            channel.sender.close()
