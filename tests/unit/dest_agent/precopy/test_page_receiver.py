"""A channel's pages go where its placer says, and another placer comes between two frames only."""

from __future__ import annotations

import queue
import socket
from collections.abc import Iterator

import numpy as np
import pytest

from pageferry.common.errors import PageferryError, RemoteProtocolError
from pageferry.common.guest.memory import GuestMemory
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire import encoder
from pageferry.common.wire.budget import Budget
from pageferry.common.wire.extents import Extents, from_pages
from pageferry.common.wire.frames import PagesFrame
from pageferry.common.wire.spans import SpanTable
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.dest_agent.precopy.page_placer import ChannelPlacer, GuestPlacer
from pageferry.dest_agent.precopy.page_receiver import PageReceiver

N_PAGES = 64
WAIT_S = 30.0
PAGES = {"scattered": [1, 3, 5], "a run": list(range(8, 24))}


class Told(ChannelPlacer):
    """Says when pages have a place, and when they are there."""

    def __init__(self, placer: GuestPlacer, events: queue.Queue[str]) -> None:
        super().__init__(placer)
        self._events = events

    def places(self, extents: Extents) -> SpanTable | None:
        table = super().places(extents)
        if table is not None:
            self._events.put("placed")
        return table

    def buffers(self, extents: Extents) -> list[memoryview]:
        buffers = super().buffers(extents)
        self._events.put("placed")
        return buffers

    def arrived(self, frame: PagesFrame) -> None:
        super().arrived(frame)
        self._events.put("arrived")


class Bench:
    """One channel into a guest's memory, and another guest's to go over to."""

    def __init__(self, *, checked: bool) -> None:
        self.checked = checked
        self.memory, self.other = GuestMemory(N_PAGES * PAGE_SIZE), GuestMemory(N_PAGES * PAGE_SIZE)
        self.events: queue.Queue[str] = queue.Queue()
        self.barriers: queue.Queue[int] = queue.Queue()
        self.failures: queue.Queue[PageferryError] = queue.Queue()
        self.inflow = PageReceiver(
            lambda: Told(GuestPlacer(self.memory), self.events),
            N_PAGES,
            1,
            lambda index, _t_ns: self.barriers.put(index),
            self.failures.put,
            Budget(),
            stream=StreamFormat(checksum=checked),
        )
        self.here, theirs = socket.socketpair()
        self.inflow.attach(0, theirs)

    def switch(self) -> None:
        self.inflow.place_with(lambda: Told(GuestPlacer(self.other), self.events))

    def frame(self, pages: list[int]) -> tuple[bytes, bytes]:
        """Its head, and all that follows."""
        head = encoder.encode_pages_head(from_pages(np.array(pages)), checked=self.checked)
        data = bytes([7]) * PAGE_SIZE * len(pages)
        return head, data + (encoder.trailer(head, data) if self.checked else b"")

    def next(self) -> str:
        return self.events.get(timeout=WAIT_S)

    def close(self) -> None:
        self.inflow.close()
        self.here.close()
        self.memory.close()
        self.other.close()


@pytest.fixture(params=[False, True], ids=["", "with checksums"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    bench = Bench(checked=request.param)
    yield bench
    bench.close()


@pytest.mark.parametrize("name", PAGES)
def test_another_placer_between_two_frames(bench: Bench, name: str) -> None:
    for memory in (bench.memory, bench.other):
        bench.here.sendall(b"".join(bench.frame(PAGES[name])))
        assert [bench.next(), bench.next()] == ["placed", "arrived"]
        bench.here.sendall(encoder.encode_barrier(bench.inflow.passed + 1, checked=bench.checked))
        bench.barriers.get(timeout=WAIT_S)
        assert np.flatnonzero(memory.pages.any(axis=1)).tolist() == PAGES[name]
        if memory is bench.memory:
            bench.switch()
    assert bench.failures.empty()


@pytest.mark.parametrize("name", PAGES)
def test_none_in_the_middle_of_one(bench: Bench, name: str) -> None:
    head, rest = bench.frame(PAGES[name])
    bench.here.sendall(head + rest[:100])
    assert bench.next() == "placed"
    with pytest.raises(RemoteProtocolError, match="in the middle of a frame"):
        bench.switch()
