"""Sending pages: batches of one round, shared out over the bulk channels."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, cycle
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pageferry.common.errors import PageferryError
from pageferry.common.guest.lines import gather
from pageferry.common.guest.memory import GuestMemory
from pageferry.common.process.threads import WatchedThread
from pageferry.common.strategy.converge import EARLY_S, LOOK_S
from pageferry.common.units import LINE_SIZE, PAGE_SIZE
from pageferry.common.wire import frames
from pageferry.common.wire.bulk import BulkSender
from pageferry.common.wire.channel import STALL_S, Tap
from pageferry.common.wire.extents import EXTENT, Extents, Pages, batches, from_pages, to_pages
from pageferry.common.wire.pacing import Pacer
from pageferry.common.wire.probes import IDLE_S
from pageferry.source_agent.precopy.frame_chunks import PartMaker

if TYPE_CHECKING:
    from pageferry.source_agent.precopy.batch_encoder import Squeezer

# Pages a frame. 1 MiB is large enough for its header not to count, and small enough to share out
# evenly; where nothing limits the rate, what Python does for a frame counts, too.
BATCH_PAGES = 256
_UNLIMITED_PAGES = frames.MAX_FRAME_PAGES
_SHORT_RUN = 8  # pages of an extent, on average, below which one copied buffer costs less
_LINE_PAGES = 4096  # a frame; its header could say 65535


_NO_PAGES: Pages = np.empty(0, np.int64)
_NO_MASKS: NDArray[np.uint64] = np.empty(0, np.uint64)


@dataclass(frozen=True, slots=True)
class Cargo:
    """What a round sends. whole: pages, int64[n]; lined: those of which only the lines in `masks`

    (uint64, one each) travel. Both sorted; no page is in both.
    """

    whole: Pages
    lined: Pages = field(default_factory=lambda: _NO_PAGES)
    masks: NDArray[np.uint64] = field(default_factory=lambda: _NO_MASKS)


@dataclass(frozen=True, slots=True)
class Tally:
    """What one round put on the bulk channels.

    pages: with content, whole or by line; line_pages of them by line, as `lines` 64-byte lines;
    bytes: headers included; bytes_saved: what those pages would have cost more as whole ones;
    delta_pages of `pages` as a delta.
    """

    pages: int = 0
    zero_pages: int = 0
    bytes: int = 0
    line_pages: int = 0
    lines: int = 0
    bytes_saved: int = 0
    delta_pages: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.pages + other.pages,
            self.zero_pages + other.zero_pages,
            self.bytes + other.bytes,
            self.line_pages + other.line_pages,
            self.lines + other.lines,
            self.bytes_saved + other.bytes_saved,
            self.delta_pages + other.delta_pages,
        )


def line_batches(cargo: Cargo) -> Iterator[frames.LineTable]:
    """Its pages by line, cut into the tables of frames."""
    ends = np.cumsum(np.bitwise_count(cargo.masks), dtype=np.int64)
    first = 0
    while first < len(ends):
        before = int(ends[first - 1]) if first else 0
        last = int(np.searchsorted(ends, before + frames.MAX_FRAME_LINES, side="right"))
        last = min(last, first + _LINE_PAGES)
        table = np.empty(last - first, frames.LINES_OF)
        table["page"], table["mask"] = cargo.lined[first:last], cargo.masks[first:last]
        yield table
        first = last


def _joined(batches_left: Iterator[NDArray[np.void]]) -> Cargo:
    """What these batches would have sent."""
    whole, tables = [_NO_PAGES], [np.empty(0, frames.LINES_OF)]
    for batch in batches_left:
        if batch.dtype == frames.LINES_OF:
            tables.append(batch)
        else:
            whole.append(to_pages(batch))
    lined = np.concatenate(tables)
    masks = lined["mask"].astype(np.uint64)
    return Cargo(np.concatenate(whole), lined["page"].astype(np.int64), masks)


def _look_on(jobs: list[Future[Tally]], look: Callable[[bool], None]) -> None:
    """Until every channel is through, or one has failed."""
    for early in cycle((True, False)):
        done, going = wait(jobs, EARLY_S if early else LOOK_S - EARLY_S, FIRST_EXCEPTION)
        if not going or any(job.exception() for job in done):
            return
        look(early)


class Outflow:
    """The bulk channels of a session, source end.

    One round at a time. Each channel's thread takes the next batch when it is through with one, so
    that a slow connection does not hold the others up. Pages that are all zero travel as a mark.
    What is sent is what memory holds at that moment, or later where pages go in place: a page that
    the guest writes meanwhile is in the dirty log, and goes again. With checksums (`checked`) that
    moment is before it is sent: see `source_agent.precopy.frame_chunks`. squeezer: makes batches
    shorter; None: they go as they are. tell: hears, on the thread that keeps idle connections open,
    what has ended it.
    """

    def __init__(
        self,
        memory: GuestMemory,
        sockets: list[socket.socket],
        pacer: Pacer,
        *,
        checked: bool = False,
        attempt: int = 0,
        stall_s: float = STALL_S,
        tap: Tap | None = None,
        squeezer: Squeezer | None = None,
        tell: Callable[[PageferryError], None] | None = None,
    ) -> None:
        self._memory = memory
        self._checked = checked
        self._squeezer = squeezer
        self._senders = [
            BulkSender(sock, pacer, attempt=attempt, checked=checked, stall_s=stall_s, tap=tap)
            for sock in sockets
        ]
        self._makers = {sender: PartMaker(memory, checked=checked) for sender in self._senders}
        self._still = False
        self._threads = ThreadPoolExecutor(len(sockets), thread_name_prefix="bulk")
        self._lock = threading.Lock()
        self._short = threading.Event()
        self._pacer = pacer
        self._turn = 0
        self._moved = [Tally() for _ in sockets]
        gather(memory.words, _NO_PAGES, _NO_MASKS, np.empty(0, np.uint64))  # loaded now
        self._closed = threading.Event()
        self._keeper = WatchedThread(self._keep_open, "bulk-keeper", tell)
        self._keeper.start()

    def _keep_open(self) -> None:
        """Idle connections stay open: between rounds, while the guest warms up, in a lazy copy."""
        while not self._closed.wait(IDLE_S / 2):
            for sender in self._senders:
                sender.keep_open()

    def guest_is_still(self, still: bool) -> None:
        """Nobody writes guest memory from now on, or somebody may again; between two rounds."""
        self._still = still

    @property
    def sent_bytes(self) -> int:
        """On all channels so far; grows while a round is under way."""
        return sum(sender.sent_bytes for sender in self._senders)

    @property
    def moved(self) -> Tally:
        """What a round that has failed had sent until then, in whole batches."""
        return sum(self._moved, Tally())

    def cut_short(self, on: bool) -> None:
        """From any thread. on: a round ends after the batches that are under way; off: no more."""
        if on:
            self._short.set()
        else:
            self._short.clear()

    def send_round(
        self, cargo: Cargo, index: int, look: Callable[[bool], None] | None = None
    ) -> tuple[Tally, Cargo]:
        """Send it all, and the round's barrier on every channel; returns what was left unsent.

        look: called every `LOOK_S` meanwhile, and each time (with true) `EARLY_S` later. Blocks.
        Raises `ConnectionBroken`, or what `look` does; the other channels are then aborted too.
        """
        unlimited = math.isinf(self._pacer.rate) and self._squeezer is None
        most = _UNLIMITED_PAGES if unlimited else BATCH_PAGES
        pages = batches(cargo.whole, max_pages=most, max_extents=frames.MAX_EXTENTS)
        work = chain(pages, line_batches(cargo))
        self._moved = [Tally() for _ in self._senders]
        jobs = [
            self._threads.submit(self._run_channel, channel, sender, work, index)
            for channel, sender in enumerate(self._senders)
        ]
        try:
            if look is not None:
                _look_on(jobs, look)
            tallies = [job.result() for job in jobs]
        except BaseException:
            self.abort()
            for job in jobs:
                job.exception()  # every channel's thread is out of guest memory when this returns
            raise
        return sum(tallies, Tally()), _joined(work)

    def _take(self, work: Iterator[NDArray[np.void]]) -> NDArray[np.void] | None:
        with self._lock:  # a generator must not be entered twice
            return None if self._short.is_set() else next(work, None)

    def _run_channel(
        self, channel: int, sender: BulkSender, work: Iterator[NDArray[np.void]], index: int
    ) -> Tally:
        with self._pacer.sending():
            if self._squeezer is not None:
                take = partial(self._take, work)
                total = self._squeezer.convey(
                    channel, take, sender.send, partial(self._note, channel)
                )
            else:
                total = self._send_batches(channel, sender, work)
            barrier = frames.encode_barrier(index, checked=self._checked)
            return total + Tally(bytes=sender.send([barrier]))

    def _note(self, channel: int, tally: Tally) -> None:
        self._moved[channel] += tally

    def _send_batches(
        self, channel: int, sender: BulkSender, work: Iterator[NDArray[np.void]]
    ) -> Tally:
        buffer: NDArray[np.uint64] | None = None
        while (batch := self._take(work)) is not None:
            if batch.dtype == frames.LINES_OF:
                if buffer is None:
                    buffer = np.empty(frames.MAX_FRAME_LINES * LINE_SIZE // 8, np.uint64)
                self._note(channel, self._send_lines(sender, batch, buffer))
            else:
                self._note(channel, self._send_extents(sender, batch))
        return self._moved[channel]

    def _send_lines(
        self, sender: BulkSender, table: frames.LineTable, buffer: NDArray[np.uint64]
    ) -> Tally:
        """Gathered first: a buffer a line would be thousands of them a frame."""
        pages, masks = table["page"].astype(np.int64), table["mask"].astype(np.uint64)
        lines = gather(self._memory.words, pages, masks, buffer)
        data = buffer.view(np.uint8)[: lines * LINE_SIZE].data
        sent = self._send(sender, frames.encode_lines_head(table, checked=self._checked), data)
        saved = len(table) * (PAGE_SIZE + EXTENT.itemsize) - table.nbytes - len(data)
        return Tally(len(table), 0, sent, len(table), lines, saved)

    def _send_extents(self, sender: BulkSender, extents: Extents) -> Tally:
        pages = zero_pages = sent = 0
        full, zero = self._split_zero(extents)
        if len(zero):
            sent += sender.send([frames.encode_zero(zero, checked=self._checked)])
            zero_pages = int(zero["count"].sum())
        if len(full):
            pages = int(full["count"].sum())
            head = frames.encode_pages_head(full, checked=self._checked)
            if sender.in_place and (self._still or not self._checked):
                end = self._makers[sender].checksum(head, full) if self._checked else b""
                sent += sender.send_pages(head, self._memory.address, to_pages(full), end)
            elif self._checked or pages < _SHORT_RUN * len(full):
                parts = self._makers[sender].parts(head, full, still=self._still)
                sent += sender.send_parts(parts)
            else:
                sent += sender.send([head, *self._views(full)])
        return Tally(pages, zero_pages, sent)

    def _send(self, sender: BulkSender, *parts: bytes | memoryview) -> int:
        return sender.send([*parts, frames.trailer(*parts)] if self._checked else parts)

    def send_batch(self, pages: Pages) -> Tally:
        """Push some pages (sorted, int64[n], n at most `BATCH_PAGES`) outside any round.

        On the channels in turn. Blocks; raises `ConnectionBroken`.
        """
        sender = self._senders[self._turn]
        self._turn = (self._turn + 1) % len(self._senders)
        with self._pacer.sending():
            if self._squeezer is not None:
                packet = self._squeezer.push(pages)
                return packet.tally + Tally(bytes=sum(map(sender.send, packet.frames)))
            return self._send_extents(sender, from_pages(pages))

    def charge(self, n: int) -> None:
        """Bytes that went over another connection count against the rate limit here."""
        if n > 0:
            now = time.monotonic()
            self._pacer.reserve(n, now)
            self._pacer.sent(n, now)

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
        self._closed.set()
        self._keeper.join()
        self._threads.shutdown(wait=True)
        for sender in self._senders:
            sender.close()
