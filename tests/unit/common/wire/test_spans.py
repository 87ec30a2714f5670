"""Pages that travel without being copied: what arrives, how it is cut, and how it ends."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pageferry.common.errors import ConnectionBroken
from pageferry.common.guest.memory import near_pages
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire import bulk_sender, encoder, frames
from pageferry.common.wire.bulk_receiver import BulkReceiver
from pageferry.common.wire.bulk_sender import BulkSender
from pageferry.common.wire.extents import Extents, from_pages, to_pages
from pageferry.common.wire.frames import BarrierFrame, Frame, PagesFrame
from pageferry.common.wire.link_policy import LinkPolicy
from pageferry.common.wire.pacing import Pacer
from pageferry.common.wire.spans import PIPE_BYTES, PagePipe, Spans, SpanTable
from pageferry.common.wire.stream_format import StreamFormat
from tests.support.page_store import PageStore

N_PAGES = 4096
UNLIMITED = float("inf")
PAGE_SETS = {
    "one": [17],
    "more than a pipe holds": list(range(100, 1100)),
    "runs": [*range(5, 9), 20, *range(30, 40), N_PAGES - 1],
    "every other": list(range(0, 2 * frames.MAX_EXTENTS, 2)),
}


def connected() -> tuple[socket.socket, socket.socket]:
    """A TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        here = socket.create_connection(listener.getsockname())
        return here, listener.accept()[0]


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with contextlib.ExitStack() as closing:
        ends = connected()
        for end in ends:
            closing.callback(end.close)
        yield ends


def noise(n_pages: int) -> NDArray[np.uint8]:
    memory = near_pages(n_pages).view(np.uint8).reshape(n_pages, PAGE_SIZE)
    memory[:] = np.random.default_rng(1).integers(0, 256, (n_pages, PAGE_SIZE), np.uint8)
    return memory


class Store(PageStore):
    """Where pages arrive. scattered: each at its place; otherwise in the placer's buffers."""

    def __init__(self, *, scattered: bool) -> None:
        super().__init__(N_PAGES)
        self._scattered = scattered

    def places(self, extents: Extents) -> SpanTable | None:
        if not self._scattered:
            return None
        first = extents["first"].astype(np.uint64) * PAGE_SIZE + self.memory.ctypes.data
        return np.stack((first, extents["count"].astype(np.uint64) * PAGE_SIZE), axis=1)


def transferred(
    pair: tuple[socket.socket, socket.socket],
    store: Store,
    pages: Sequence[int],
    content: NDArray[np.uint8],
    *,
    checked: bool,
) -> list[Frame]:
    """Two frames of these pages and a barrier, from one end to the other."""
    here, there = pair
    receiver = BulkReceiver(
        there, store, N_PAGES, stream=StreamFormat(checksum=checked), places=store.places
    )
    got: list[Frame] = []
    thread = threading.Thread(target=receiver.run, args=(got.append,))
    thread.start()
    sender = BulkSender(here, Pacer(UNLIMITED), stream=StreamFormat(checksum=checked))
    numbers = np.array(pages, np.int64)
    extents = from_pages(numbers)
    head = encoder.encode_pages_head(extents, checked=checked)
    end = encoder.trailer(head, content[numbers].tobytes()) if checked else b""
    try:
        assert sender.in_place
        sent = sum(sender.send_pages(head, content.ctypes.data, numbers, end) for _ in range(2))
        sent += sender.send([encoder.encode_barrier(3, checked=checked)])
    finally:
        here.shutdown(socket.SHUT_WR)
        thread.join()
        sender.close()
    assert sent == sender.sent_bytes == receiver.received_bytes
    assert sent == 2 * (len(head) + len(numbers) * PAGE_SIZE + len(end)) + 16 + 8 * checked
    return got


def send_often(sender: BulkSender, content: NDArray[np.uint8]) -> None:
    """More than the kernel takes without a reader."""
    pages = np.arange(1000)
    head = encoder.encode_pages_head(from_pages(pages))
    for _ in range(100):
        sender.send_pages(head, content.ctypes.data, pages)


def test_memory_that_does_not_begin_with_a_page(pair: tuple[socket.socket, socket.socket]) -> None:
    sender, content = BulkSender(pair[0], Pacer(UNLIMITED)), noise(1024)
    pages = np.arange(512)  # twice what a pipe holds
    head = encoder.encode_pages_head(from_pages(pages))
    assert sender.in_place
    with pytest.raises(ConnectionBroken):  # and not for ever in a pipe that is full
        sender.send_pages(head, content.ctypes.data + 64, pages)
    sender.close()


@pytest.mark.parametrize("checked", [False, True], ids=["", "with checksums"])
@pytest.mark.parametrize("scattered", [False, True], ids=["beside", "at their places"])
@pytest.mark.parametrize("name", PAGE_SETS)
def test_spliced_pages_arrive_as_they_were(
    pair: tuple[socket.socket, socket.socket], name: str, scattered: bool, checked: bool
) -> None:
    content, store = noise(N_PAGES), Store(scattered=scattered)
    pages = PAGE_SETS[name]
    got = transferred(pair, store, pages, content, checked=checked)
    assert [type(frame) for frame in got] == [PagesFrame, PagesFrame, BarrierFrame]
    for frame in got[:2]:
        assert isinstance(frame, PagesFrame)
        assert to_pages(frame.extents).tolist() == pages
    expected = np.full((N_PAGES, PAGE_SIZE), 0xEE, np.uint8)
    expected[pages] = content[pages]
    assert np.array_equal(store.memory, expected)


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=40),
    cuts=st.lists(st.integers(1, 60), max_size=60),
)
def test_spans_are_filled_in_order_however_bytes_come(sizes: list[int], cuts: list[int]) -> None:
    memory = np.zeros(10 * len(sizes), np.uint8)
    starts = np.arange(len(sizes), dtype=np.uint64) * 10 + memory.ctypes.data
    spans = Spans(np.stack((starts, np.array(sizes, np.uint64)), axis=1))
    data = np.arange(1, sum(sizes) + 1, dtype=np.uint8)
    out, into = os.pipe()
    try:
        done = 0
        for cut in [*cuts, len(data)]:
            part = data[done : done + cut].tobytes()
            if part:
                os.write(into, part)
                assert spans.read(out) == len(part)
                spans.advance(len(part))
                done += len(part)
    finally:
        os.close(out)
        os.close(into)
    filled = [memory[10 * i : 10 * i + size] for i, size in enumerate(sizes)]
    assert np.array_equal(np.concatenate(filled), data)
    assert int(np.count_nonzero(memory)) == len(data)  # and nothing beside them


def test_a_peer_that_is_gone(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    sender, content = BulkSender(here, Pacer(UNLIMITED)), noise(1024)
    assert sender.in_place
    there.close()
    with pytest.raises(ConnectionBroken):
        send_often(sender, content)
    sender.close()


def test_a_peer_that_reads_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    sender, content = (
        BulkSender(pair[0], Pacer(UNLIMITED), link=LinkPolicy(stall_s=0.2)),
        noise(1024),
    )
    assert sender.in_place
    with pytest.raises(ConnectionBroken, match=r"took no byte for 0\.2 s"):
        send_often(sender, content)
    sender.close()


def test_abort_ends_a_sender_that_waits(pair: tuple[socket.socket, socket.socket]) -> None:
    sender, content = BulkSender(pair[0], Pacer(UNLIMITED)), noise(1024)
    assert sender.in_place
    failures: list[Exception] = []

    def send() -> None:
        try:
            send_often(sender, content)
        except ConnectionBroken as error:
            failures.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    pair[1].recv(1)  # it has begun, and soon fills what the kernel takes
    sender.abort()
    thread.join()
    assert len(failures) == 1
    sender.close()


@pytest.mark.parametrize(("rate_Bps", "in_place"), [(100e6, False), (399e6, False), (400e6, True)])
def test_pages_are_copied_at_low_rates(
    pair: tuple[socket.socket, socket.socket], rate_Bps: float, in_place: bool
) -> None:
    sender = BulkSender(pair[0], Pacer(rate_Bps))
    assert sender.in_place is in_place
    sender.close()


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (fcntl, "fcntl", Mock(side_effect=PermissionError)),  # of what is left of the user's share
        (mmap, "PAGESIZE", 16 * PAGE_SIZE),
    ],
    ids=["a small pipe", "large pages"],
)
def test_hosts_where_it_would_not_pay_or_not_work(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, value: object
) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(module, name, value)
    with pytest.raises(OSError):  # noqa: PT011 - which one is the host's to say
        PagePipe(PAGE_SIZE)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_host_that_refuses(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_arguments: Any) -> PagePipe:
        raise PermissionError

    monkeypatch.setattr(bulk_sender, "PagePipe", refused)
    sender = BulkSender(pair[0], Pacer(UNLIMITED))
    assert not sender.in_place
    sender.close()


def test_no_pipe_is_left_open(pair: tuple[socket.socket, socket.socket]) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    pipe = PagePipe(PAGE_SIZE)
    assert pipe.pages * PAGE_SIZE == PIPE_BYTES
    pipe.close()
    pipe.close()
    sender = BulkSender(pair[0].dup(), Pacer(UNLIMITED))
    assert sender.in_place
    sender.close()
    assert sorted(os.listdir("/proc/self/fd")) == before
