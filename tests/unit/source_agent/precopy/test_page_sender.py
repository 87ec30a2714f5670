"""Who shares the rate where the kernel paces: those that send at the moment, and no others."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from pageferry.common.errors import ConnectionBroken
from pageferry.common.guest.memory import GuestMemory
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire.pacing import KERNEL_PEAK, Pacer
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.source_agent.precopy.batches import BATCH_PAGES, Batch, RoundPages
from pageferry.source_agent.precopy.page_sender import PageSender

CHANNELS = 4
RATE = 1e9
WHOLE = round(RATE * KERNEL_PEAK)


def paced(sock: socket.socket) -> int:
    """Bytes a second."""
    return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, 47, 8), "little")


def drain(sock: socket.socket) -> None:
    while sock.recv(1 << 20):
        pass


@pytest.fixture
def memory() -> Iterator[GuestMemory]:
    memory = GuestMemory(64 * PAGE_SIZE)
    memory.pages[:] = 1
    yield memory
    memory.close()


@pytest.fixture
def ours() -> Iterator[list[socket.socket]]:
    """Ends whose peers read all that comes."""
    pairs = [socket.socketpair() for _ in range(CHANNELS)]
    readers = [threading.Thread(target=drain, args=(theirs,)) for _, theirs in pairs]
    for reader in readers:
        reader.start()
    yield [here for here, _ in pairs]
    for (here, _), reader in zip(pairs, readers, strict=True):
        here.close()
        reader.join()
    for _, theirs in pairs:
        theirs.close()


def test_pushes_go_by_one_connection_at_a_time(
    memory: GuestMemory, ours: list[socket.socket]
) -> None:
    page_sender = PageSender(
        memory, ours, Pacer(RATE, kernel_channels=CHANNELS), stream=StreamFormat(checksum=True)
    )
    for first in range(0, 8 * CHANNELS, 8):
        page_sender.send_batch(np.arange(first, first + 8))
    assert [paced(sock) for sock in ours] == [WHOLE] * CHANNELS
    page_sender.close()


def test_in_a_round_those_share_it_that_are_in_it(
    memory: GuestMemory, ours: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    pacer = Pacer(RATE, kernel_channels=CHANNELS)
    page_sender = PageSender(memory, ours, pacer, stream=StreamFormat(checksum=True))
    begun, done = threading.Barrier(CHANNELS), threading.Barrier(CHANNELS)
    take, inside = page_sender._take, threading.local()
    seen: list[int] = []

    def take_together(work: Iterator[Batch]) -> Batch | None:
        if not hasattr(inside, "begun"):
            inside.begun = begun.wait(timeout=20)
        batch = take(work)
        if batch is None:
            seen.append(min(map(paced, ours)))  # of who had the batch: the others sent nothing yet
            done.wait(timeout=20)
        return batch

    monkeypatch.setattr(page_sender, "_take", take_together)
    page_sender.send_round(RoundPages(np.arange(64)), 1)
    assert min(seen) == round(WHOLE / CHANNELS)
    monkeypatch.undo()
    page_sender.send_batch(np.arange(8))
    assert paced(ours[0]) == WHOLE  # the round's end was the end of sharing
    page_sender.close()


def test_pages_in_place_are_the_same_bytes(memory: GuestMemory) -> None:
    """At a high rate, and where they are copied: with checksums only while the guest is still."""
    memory.fill(3, zero_share=0.2)
    streams: dict[tuple[float, bool, bool], bytes] = {}
    for rate in (1e8, float("inf")):
        for checked in (False, True):
            for still in (False, True):
                streams[rate, checked, still] = stream_of(
                    memory, rate, checked=checked, still=still
                )
    for checked in (False, True):
        same = {stream for (_, each, _), stream in streams.items() if each == checked}
        assert len(same) == 1


def stream_of(memory: GuestMemory, rate: float, *, checked: bool, still: bool) -> bytes:
    """A round of scattered pages and of runs."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        here = socket.create_connection(listener.getsockname())
        there, _ = listener.accept()
    got = bytearray()

    def read() -> None:
        while data := there.recv(1 << 20):
            got.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    page_sender = PageSender(memory, [here], Pacer(rate), stream=StreamFormat(checksum=checked))
    page_sender.guest_is_still(still)
    page_sender.send_round(RoundPages(np.array([*range(0, 30, 3), *range(32, 60)])), 1)
    here.shutdown(socket.SHUT_WR)
    reader.join()
    page_sender.close()
    there.close()
    return bytes(got)


def test_what_a_round_had_sent_is_known_after_it_broke() -> None:
    """The peer takes two frames of 1 MiB of four; a socket holds less than one more."""
    memory = GuestMemory(4 * BATCH_PAGES * PAGE_SIZE)
    memory.pages[:] = 1
    here, theirs = socket.socketpair()
    here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)

    def take_half() -> None:
        left = 2 * BATCH_PAGES * PAGE_SIZE + 1024
        while left > 0:
            left -= len(theirs.recv(min(left, 1 << 16)))
        theirs.close()

    reader = threading.Thread(target=take_half)
    reader.start()
    page_sender = PageSender(memory, [here], Pacer(RATE), stream=StreamFormat(checksum=True))
    with pytest.raises(ConnectionBroken):
        page_sender.send_round(RoundPages(np.arange(4 * BATCH_PAGES)), 1)
    reader.join()
    assert page_sender.moved.pages == 2 * BATCH_PAGES
    page_sender.close()
    memory.close()
