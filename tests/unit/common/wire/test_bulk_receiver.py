"""Bulk connections from end to end: what comes out is what went in."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from pageferry.common.errors import ConnectionBroken, RemoteProtocolError
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire import encoder, frames
from pageferry.common.wire.bulk_receiver import BulkReceiver
from pageferry.common.wire.bulk_sender import BulkSender
from pageferry.common.wire.extents import from_pages, to_pages
from pageferry.common.wire.frames import BarrierFrame, Frame, PagesFrame, ZeroFrame
from pageferry.common.wire.pacing import Pacer
from tests.support.page_store import PageStore

UNLIMITED = float("inf")
N_PAGES = 4096


class Ends:
    """Both ends; the receiver has a thread."""

    def __init__(self, *, small: bool = False, pacer: Pacer | None = None) -> None:
        here, there = socket.socketpair()
        if small:
            # The kernel's least: what is sent fills it many times over.
            here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        self.sender = BulkSender(here, pacer or Pacer(UNLIMITED))
        self.store = PageStore(N_PAGES)
        self.receiver = BulkReceiver(there, self.store, N_PAGES)
        self.frames: list[Frame] = []
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.receiver.run(self.frames.append)
        except (ConnectionBroken, RemoteProtocolError) as error:
            self.failure = error

    def finish(self) -> None:
        self.sender._sock.shutdown(socket.SHUT_WR)
        self._thread.join()

    def close(self) -> None:
        self.sender.abort()
        self._thread.join()
        self.sender.close()
        self.receiver.close()


@pytest.fixture
def ends() -> Iterator[Callable[..., Ends]]:
    with contextlib.ExitStack() as closing:

        def make(**options: Any) -> Ends:
            made = Ends(**options)
            closing.callback(made.close)
            return made

        yield make


PAGE_SETS = {
    "one": [17],
    "all of a frame": list(range(100, 356)),
    "runs": [*range(5, 9), 20, *range(30, 40), N_PAGES - 1],
    "every other": list(range(0, 512, 2)),
    "as scattered as a frame may be": list(range(0, 2 * frames.MAX_EXTENTS, 2)),
}


class TestBothEnds:
    @pytest.mark.parametrize("small", [False, True], ids=["", "in parts"])
    @pytest.mark.parametrize("rate", [UNLIMITED, 2e9])
    @pytest.mark.parametrize("name", PAGE_SETS)
    def test_what_is_sent_arrives_as_it_was(
        self, ends: Callable[..., Ends], name: str, rate: float, small: bool
    ) -> None:
        pages = np.array(PAGE_SETS[name], np.int64)
        content = np.random.default_rng(1).integers(0, 256, (N_PAGES, PAGE_SIZE), np.uint8)
        view = content.reshape(-1).data
        extents = from_pages(pages)
        both = ends(small=small, pacer=Pacer(rate))
        views = [view[f * PAGE_SIZE : (f + c) * PAGE_SIZE] for f, c in extents.tolist()]
        gone = both.sender.send([encoder.encode_pages_head(extents), *views])
        gone += both.sender.send([encoder.encode_zero(from_pages(pages[:1])[:1])])
        gone += both.sender.send([encoder.encode_barrier(3)])
        both.finish()
        assert both.failure is None
        assert [type(frame) for frame in both.frames] == [PagesFrame, ZeroFrame, BarrierFrame]
        first, second, third = both.frames
        assert isinstance(first, PagesFrame)
        assert isinstance(second, ZeroFrame)
        assert to_pages(first.extents).tolist() == pages.tolist()
        assert first.pages == len(pages)
        assert to_pages(second.extents).tolist() == pages[:1].tolist()
        assert third == BarrierFrame(3)
        expected = np.full((N_PAGES, PAGE_SIZE), 0xEE, np.uint8)
        expected[pages] = content[pages]
        assert np.array_equal(both.store.memory, expected)
        # 16 bytes a header, 8 an extent.
        size = 16 + 8 * len(extents) + PAGE_SIZE * len(pages) + (16 + 8) + 16
        assert gone == both.sender.sent_bytes == both.receiver.received_bytes == size

    def test_an_end_in_the_middle_of_a_frame(self, ends: Callable[..., Ends]) -> None:
        both = ends()
        head = encoder.encode_pages_head(from_pages(np.array([4], np.int64)))
        both.sender.send([head, bytes(PAGE_SIZE - 1)])
        both.finish()
        assert isinstance(both.failure, ConnectionBroken)
        assert both.frames == []
        assert both.receiver.received_bytes == len(head) + PAGE_SIZE - 1

    def test_pages_outside_the_guest(self, ends: Callable[..., Ends]) -> None:
        both = ends()
        both.sender.send([encoder.encode_zero(from_pages(np.array([N_PAGES], np.int64)))])
        both.finish()
        assert isinstance(both.failure, RemoteProtocolError)
