"""The bulk connections of one session: a receiving thread for each, and the rounds' barriers."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from pageferry.common.errors import ConnectionBroken, PageferryError, RemoteProtocolError
from pageferry.common.process.threads import WatchedThread
from pageferry.common.wire.budget import Budget, BudgetShare
from pageferry.common.wire.bulk_receiver import BulkReceiver
from pageferry.common.wire.extents import Extents
from pageferry.common.wire.frames import (
    BarrierFrame,
    DeltaFrame,
    Frame,
    LinesFrame,
    PagesFrame,
    ZeroFrame,
)
from pageferry.common.wire.link_policy import DEFAULT, LinkPolicy
from pageferry.common.wire.payload import Placer
from pageferry.common.wire.probes import IDLE_S
from pageferry.common.wire.spans import SpanTable
from pageferry.common.wire.stream_format import StreamFormat

MAX_ROUNDS: Final = 10_000  # each is an event; no strategy makes more than a tenth of that


class PagePlacer(Placer, Protocol):
    """Where pages go, and what is done once they are there; one for each channel, on its thread."""

    def places(self, extents: Extents) -> SpanTable | None:
        """Return where these pages lie, to be received there; not asked for frames with a checksum.

        Args:
            extents: EXTENT[n], checked against the guest.

        Returns:
            None to receive them in `buffers`.
        """
        ...

    def beside(self, extents: Extents) -> int:
        """Return how many bytes these pages take beside guest memory.

        Args:
            extents: EXTENT[n], checked against the guest.

        Returns:
            Bytes; 0 if they are received in guest memory.
        """
        ...

    def forget(self, most: int) -> None:
        """Drop a buffer that is too large to keep; called between two frames.

        Args:
            most: Bytes that may be kept.
        """
        ...

    def arrived(self, frame: PagesFrame) -> None:
        """Take a frame of pages.

        Args:
            frame: All its bytes are in its buffers, or at its places.
        """
        ...

    def zero(self, frame: ZeroFrame) -> None:
        """Make pages zero.

        Args:
            frame: Says which.
        """
        ...

    def lines(self, frame: LinesFrame) -> None:
        """Change lines of pages.

        Args:
            frame: Its arrays hold until this returns.

        Raises:
            RemoteProtocolError: None may come now.
        """
        ...

    def delta(self, frame: DeltaFrame) -> None:
        """Change pages as encoded.

        Args:
            frame: Its arrays hold until this returns.

        Raises:
            RemoteProtocolError: An encoding is not legal, or none may come now.
        """
        ...


class _Slot:
    """What one channel places with; another placer may be put in between two frames."""

    def __init__(self, placer: PagePlacer, share: BudgetShare) -> None:
        self._placer = placer
        self._share = share
        self._busy = False  # pages have been given a place, and are not all there
        self._lock = threading.Lock()

    def buffers(self, extents: Extents) -> list[memoryview]:
        with self._lock:
            self._busy = True
            placer = self._placer  # not changed while busy
        size = placer.beside(extents)
        if size > self._share.keeps:
            self._share.take(size)
        return placer.buffers(extents)

    def places(self, extents: Extents) -> SpanTable | None:
        with self._lock:
            self._busy = True
            return self._placer.places(extents)

    def deliver(self, frame: PagesFrame | ZeroFrame | LinesFrame | DeltaFrame) -> None:
        with self._lock:
            if isinstance(frame, PagesFrame):
                self._placer.arrived(frame)
                self._placer.forget(self._share.keeps)
                self._busy = False
            elif isinstance(frame, ZeroFrame):
                self._placer.zero(frame)
            elif isinstance(frame, LinesFrame):
                self._placer.lines(frame)
            else:
                self._placer.delta(frame)

    def put(self, placer: PagePlacer) -> None:
        """Put another placer in; raise `RemoteProtocolError` if pages are under way."""
        with self._lock:
            if self._busy:
                raise RemoteProtocolError("the guest was handed over in the middle of a frame")
            self._placer = placer


class PageReceiver:
    """Receives page frames on all bulk connections of one attempt.

    A barrier holds a channel back until every channel has reached it, so that a newer copy of a
    page can never be overtaken by an older one on another connection.

    Args:
        make_placer: Called once for each channel, when its connection comes.
        n_pages: Pages of the guest.
        channels: How many connections come.
        on_barrier: Takes a round and when its last channel ended it (CLOCK_MONOTONIC ns), on a
            receiving thread.
        on_failure: Takes what ended a channel, on its thread; not after `complete` or `close`.
        budget: The session's, from which large frames draw.
        stream: Format of the frames.
        link: Of all connections of the session; see `BulkReceiver`.
        attempt: Whose connections these are, for their probes.

    Attributes:
        complete: To be set once everything is here: connections may end from then on.
    """

    def __init__(
        self,
        make_placer: Callable[[], PagePlacer],
        n_pages: int,
        channels: int,
        on_barrier: Callable[[int, int], None],
        on_failure: Callable[[PageferryError], None],
        budget: Budget,
        *,
        stream: StreamFormat,
        link: LinkPolicy = DEFAULT,
        attempt: int = 0,
    ) -> None:
        self._budget = budget
        self._stream = stream
        self._link = link
        self._attempt = attempt
        self._make_placer = make_placer
        self._slots: dict[int, _Slot] = {}
        self._n_pages = n_pages
        self._channels = channels
        self._on_barrier = on_barrier
        self._on_failure = on_failure
        self._receivers: dict[int, BulkReceiver] = {}
        self._threads: list[WatchedThread] = []
        self._gate = threading.Condition()
        self._at_barrier: dict[int, int] = {}  # channel -> the round whose end it has reached
        self._passed = 0
        self._closed = False
        self.complete = False

    @property
    def received_bytes(self) -> int:
        """Bytes received over all channels so far."""
        return sum(receiver.received_bytes for receiver in self._receivers.values())

    @property
    def unpack_cpu_s(self) -> float:
        """CPU seconds that decompressing has cost so far."""
        return sum(receiver.unpack_cpu_s for receiver in self._receivers.values())

    @property
    def is_whole(self) -> bool:
        """Whether every channel has come."""
        return len(self._receivers) == self._channels

    @property
    def passed(self) -> int:
        """The last round that has ended on all channels; 0 before the first."""
        return self._passed

    def attach(self, channel: int, sock: socket.socket) -> None:
        """Take a bulk connection, and start its thread.

        Args:
            channel: From 0; each comes once.
            sock: Blocking, behind the hello; closed by `close`.

        Raises:
            RemoteProtocolError: It is one too many.
        """
        if self._closed or channel >= self._channels or channel in self._receivers:
            raise RemoteProtocolError(f"no bulk channel {channel} is expected here")
        share = BudgetShare(self._budget)
        slot = self._slots[channel] = _Slot(self._make_placer(), share)
        receiver = BulkReceiver(
            sock,
            slot,
            self._n_pages,
            stream=self._stream,
            link=self._link,
            attempt=self._attempt,
            places=slot.places,
            share=share,
        )
        self._receivers[channel] = receiver
        work = partial(self._receive, channel, receiver)
        thread = WatchedThread(work, f"bulk-{channel}", self._failed)
        self._threads.append(thread)
        thread.start()

    def _receive(self, channel: int, receiver: BulkReceiver) -> None:
        receiver.run(lambda frame: self._deliver(channel, frame))
        raise ConnectionBroken("the source closed a bulk connection")

    def _failed(self, error: PageferryError) -> None:
        if not self.complete and not self._closed:
            self._on_failure(error)

    def _deliver(self, channel: int, frame: Frame) -> None:
        if isinstance(frame, PagesFrame | ZeroFrame | LinesFrame | DeltaFrame):
            self._slots[channel].deliver(frame)
        elif isinstance(frame, BarrierFrame):
            self._barrier(channel, frame.index)
        else:
            raise RemoteProtocolError("a control message on a bulk channel")

    def _barrier(self, channel: int, index: int) -> None:
        with self._gate:
            if index != self._passed + 1 or index > MAX_ROUNDS:
                raise RemoteProtocolError(
                    f"the end of round {index} came after that of round {self._passed}"
                )
            self._at_barrier[channel] = index
            if list(self._at_barrier.values()).count(index) < self._channels:
                self._wait_for_the_others(index, self._receivers[channel])
                return
            self._passed = index
            self._gate.notify_all()
        self._on_barrier(index, time.monotonic_ns())

    def _wait_for_the_others(self, index: int, idle: BulkReceiver) -> None:
        """Wait until all channels have ended this round; keep our connection open meanwhile."""
        while not self._gate.wait_for(lambda: self._passed >= index or self._closed, IDLE_S / 2):
            idle.keep_open()

    def place_with(self, make_placer: Callable[[], PagePlacer]) -> None:
        """Place with other placers from now on.

        A thread that reads into guest memory when its pages begin to fault waits in the kernel for
        a page that nobody may ever send, and holds the socket's lock: not even `close` would end
        that.

        Args:
            make_placer: Called for each channel that has come, and for those that will.

        Raises:
            RemoteProtocolError: Pages are under way on some channel.
        """
        self._make_placer = make_placer
        for slot in self._slots.values():
            slot.put(make_placer())

    def close(self) -> None:
        """End every connection and thread; idempotent. Blocks until the threads are gone."""
        with self._gate:
            self._closed = True
            self._gate.notify_all()
        for receiver in self._receivers.values():
            receiver.abort()
        for thread in self._threads:
            thread.join()
        for receiver in self._receivers.values():
            receiver.close()
