"""The page server: against the codec, and against a pusher that works at the same time."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pageferry.common.errors import (
    ConnectionBroken,
    CorruptFrame,
    LocalProtocolError,
    PageferryError,
    RemoteProtocolError,
)
from pageferry.common.guest.memory import GuestMemory
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire import encoder, header
from pageferry.common.wire.decoder import FrameDecoder
from pageferry.common.wire.extents import Extents, to_pages
from pageferry.common.wire.frames import Frame, PagesFrame, RequestFrame, ZeroFrame
from pageferry.common.wire.probes import AnswerFrame, ProbeFrame
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.source_agent.postcopy.kernel.push import next_unsent
from pageferry.source_agent.postcopy.kernel.state import CHUNK
from pageferry.source_agent.postcopy.page_server import (
    PULLED,
    PUSH_LEAD,
    PUSHED,
    UNSENT,
    PageServer,
)

N_PAGES = 4096


class Client:
    """The destination's end, with the codec that ships. got: (page numbers, is zero) a frame."""

    def __init__(self, sock: socket.socket, checked: bool = False) -> None:
        self.checked = checked
        self.sock = sock
        self.sock.settimeout(10)
        self.memory = bytearray(b"\xee") * (N_PAGES * PAGE_SIZE)
        self.decoder = FrameDecoder(
            self, n_pages=N_PAGES, stream=StreamFormat(checksum=checked), attempt=0
        )
        self.got: list[tuple[list[int], bool]] = []
        self.probe_bytes = 0

    def buffers(self, extents: Extents) -> list[memoryview]:
        view = memoryview(self.memory)
        return [view[f * PAGE_SIZE : (f + c) * PAGE_SIZE] for f, c in extents.tolist()]

    def ask(self, page: int, window: int = 0) -> None:
        self.sock.sendall(encoder.encode_request(page, window, checked=self.checked))

    @property
    def pages(self) -> list[int]:
        return [page for numbers, _ in self.got for page in numbers]

    def take(self, pages: int, timeout_s: float = 10.0) -> None:
        """Until so many have come in all."""
        self.sock.settimeout(timeout_s)
        while len(self.pages) < pages:
            n = self.sock.recvmsg_into(self.decoder.buffers()[:64])[0]
            assert n, "the server hung up"
            for frame in self.decoder.received(n):
                self._note(frame)

    def _note(self, frame: Frame) -> None:
        if isinstance(frame, ProbeFrame):
            self.sock.sendall(encoder.encode_answer(0, frame.number, checked=self.checked))
            self.probe_bytes += 24 if self.checked else 16
            return
        assert isinstance(frame, PagesFrame | ZeroFrame)
        numbers = to_pages(frame.extents).tolist()
        self.got.append((numbers, isinstance(frame, ZeroFrame)))
        if isinstance(frame, ZeroFrame):
            for page in numbers:
                self.memory[page * PAGE_SIZE : (page + 1) * PAGE_SIZE] = bytes(PAGE_SIZE)

    def next_probes(self, number: int) -> list[ProbeFrame | AnswerFrame]:
        """The next probes and answers; probes are answered."""
        out: list[ProbeFrame | AnswerFrame] = []
        while len(out) < number:
            n = self.sock.recvmsg_into(self.decoder.buffers()[:64])[0]
            assert n, "the server hung up"
            for frame in self.decoder.received(n):
                assert isinstance(frame, ProbeFrame | AnswerFrame)
                out.append(frame)
                if isinstance(frame, ProbeFrame):
                    self._note(frame)
        return out

    def nothing_comes(self) -> bool:
        try:
            self.take(len(self.pages) + 1, 0.05)
        except TimeoutError:
            return True
        return False


@pytest.fixture(scope="module")
def memory() -> Iterator[GuestMemory]:
    memory = GuestMemory(N_PAGES * PAGE_SIZE)
    memory.fill(1, 0.25)
    yield memory
    memory.close()


Serve = Callable[..., tuple[PageServer, Client]]


@pytest.fixture
def serve(memory: GuestMemory) -> Iterator[Serve]:
    with contextlib.ExitStack() as closing:

        def start(
            *, opened: bool = True, checked: bool = False, **options: Any
        ) -> tuple[PageServer, Client]:
            server = PageServer(
                memory, np.zeros(N_PAGES, np.uint8), stream=StreamFormat(checked), **options
            )
            if opened:
                server.open()
            closing.callback(server.close)
            return server, connect(server, checked)

        def connect(server: PageServer, checked: bool = False) -> Client:
            here, there = socket.socketpair()
            closing.callback(here.close)
            closing.callback(there.close)
            server.serve(here)
            return Client(there, checked)

        start.connect = connect  # type: ignore[attr-defined]
        yield start


def wait_for_failure(server: PageServer) -> PageferryError:
    poll = select.poll()
    poll.register(server.event_fd, select.POLLIN)
    while server.failure is None:  # an answered probe is an event, too
        assert poll.poll(10_000)
        server.clear_event()
    return server.failure


def matches(client: Client, memory: GuestMemory, pages: list[int]) -> bool:
    return all(
        client.memory[p * PAGE_SIZE : (p + 1) * PAGE_SIZE]
        == memory.view[p * PAGE_SIZE : (p + 1) * PAGE_SIZE]
        for p in pages
    )


class TestAnswers:
    def test_the_demanded_page_alone_then_its_window(
        self, serve: Serve, memory: GuestMemory
    ) -> None:
        server, client = serve()
        client.ask(500, 100)
        client.take(101)
        assert client.got[0][0] == [500]
        assert all(1 <= len(numbers) <= CHUNK for numbers, _ in client.got)
        assert sorted(client.pages) == list(range(500, 601))
        assert matches(client, memory, client.pages)
        zero = memory.zero_pages(np.arange(N_PAGES))
        assert all(zero[numbers].all() == is_zero for numbers, is_zero in client.got)
        stats = server.stats()
        assert (stats.demands, stats.pages, stats.crossed) == (1, 101, 0)
        assert stats.zero_pages == np.count_nonzero(zero[500:601])
        assert (server.sent[500:601] == PULLED).all()
        assert np.count_nonzero(server.sent) == 101
        assert client.nothing_comes()
        assert server.stats().sent_bytes - client.probe_bytes == sum(
            16
            + 8 * (1 + int(np.count_nonzero(np.diff(numbers) != 1)))
            + (0 if is_zero else len(numbers) * PAGE_SIZE)
            for numbers, is_zero in client.got
        )

    def test_each_page_travels_once(self, serve: Serve) -> None:
        server, client = serve()
        for page, window in ((10, 5), (12, 20), (10, 0), (4095, 1000), (0, 65535)):
            client.ask(page, window)
        client.take(N_PAGES)
        assert sorted(client.pages) == list(range(N_PAGES))
        assert client.nothing_comes()
        assert server.stats().demands == 5

    def test_a_pushed_page_goes_again_only_if_it_is_demanded(self, serve: Serve) -> None:
        server, client = serve()
        server.sent[100:110] = PUSHED
        client.ask(98, 20)
        client.take(11)
        assert sorted(client.pages) == [98, 99, *range(110, 119)]
        assert server.stats().crossed == 0
        client.ask(105, 3)
        client.take(12)
        assert client.got[-1][0] == [105]
        assert server.stats().crossed == 1
        client.ask(105)
        assert client.nothing_comes()

    def test_a_demand_goes_before_windows_that_wait(self, serve: Serve) -> None:
        server, client = serve()
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.ask(0, 3000)
        client.take(200)
        client.ask(4000)
        time.sleep(0.05)
        client.take(3002)
        assert client.pages.index(4000) < 1500
        assert server.focus == 4000

    @pytest.mark.parametrize("size", [1, 5, 16, 33])
    def test_requests_that_come_in_pieces_are_answered(self, serve: Serve, size: int) -> None:
        _, client = serve()
        data = b"".join(encoder.encode_request(page, 2) for page in (7, 100, 4094, 300))
        for at in range(0, len(data), size):
            client.sock.sendall(data[at : at + size])
            if size < 16:
                time.sleep(0.0005)
        client.take(11)
        assert sorted(client.pages) == [7, 8, 9, 100, 101, 102, 300, 301, 302, 4094, 4095]

    def test_more_requests_than_the_inbox_holds(self, serve: Serve) -> None:
        _, client = serve()
        client.sock.sendall(b"".join(encoder.encode_request(page) for page in range(3000)))
        client.take(3000)
        assert client.pages == list(range(3000))


class TestLimit:
    def test_neighbours_keep_to_the_rate_and_demands_do_not_wait(self, serve: Serve) -> None:
        server, client = serve(rate_Bps=8e6)
        start = time.monotonic()
        client.ask(0, 400)
        client.take(60)
        asked = time.monotonic()
        client.ask(3000)
        while 3000 not in client.pages:
            client.take(len(client.pages) + 1)
        assert time.monotonic() - asked < 0.04  # what is due then takes 0.15 s
        client.take(402)
        took = time.monotonic() - start
        assert 0.8 * server.sent_bytes / 8e6 < took + CHUNK * PAGE_SIZE / 8e6


NONSENSE = {
    "outside": header.HEADER.pack(5, 0, 0, N_PAGES, 0),
    "far outside": header.HEADER.pack(5, 0, 0, 2**32 - 1, 0),
    "another type": encoder.encode_barrier(1),
    "flags": header.HEADER.pack(5, 1, 0, 1, 0),
    "a body": header.HEADER.pack(5, 0, 0, 1, 1),
    "a negative body": header.HEADER.pack(5, 0, 0, 1, 2**64 - 1),
    "noise": bytes(range(200, 216)),
    "a probe of another attempt": encoder.encode_probe(1, 7),
    "a probe with a body": header.HEADER.pack(9, 0, 7, 0, 8),
    "an answer to nothing": encoder.encode_answer(0, 4711),
}


class TestProbes:
    @pytest.mark.parametrize("checked", [False, True])
    def test_they_are_answered_in_both_directions(self, serve: Serve, checked: bool) -> None:
        server, client = serve(checked=checked)
        client.sock.sendall(encoder.encode_probe(0, 77, checked=checked))
        came = client.next_probes(3)  # its own at once, the answer, and its own when it is idle
        assert {type(frame) for frame in came} == {ProbeFrame, AnswerFrame}
        assert [f.number for f in came if isinstance(f, AnswerFrame)] == [77]
        poll = select.poll()
        poll.register(server.event_fd, select.POLLIN)
        assert poll.poll(10_000)
        assert server.answered
        assert server.failure is None

    def test_requests_wait_until_it_is_open(self, serve: Serve, memory: GuestMemory) -> None:
        server, client = serve(opened=False)
        client.sock.sendall(b"".join(map(encoder.encode_request, range(800))))  # beyond its inbox
        came = client.next_probes(2)  # it is kept open meanwhile
        assert {type(frame) for frame in came} == {ProbeFrame}
        assert server.stats().demands == 0
        server.open()
        client.take(800)
        assert client.pages == list(range(800))
        assert matches(client, memory, client.pages)


class TestChecked:
    def test_answers_that_the_codec_believes(self, serve: Serve, memory: GuestMemory) -> None:
        server, client = serve(checked=True)
        for page, window in ((500, 100), (3, 0), (4000, 95)):
            client.ask(page, window)
        client.take(198)
        assert client.got[0][0] == [500]
        assert matches(client, memory, client.pages)
        zero = memory.zero_pages(np.arange(N_PAGES))
        assert all(zero[numbers].all() == is_zero for numbers, is_zero in client.got)
        assert server.stats().sent_bytes - client.probe_bytes == sum(
            24
            + 8 * (1 + int(np.count_nonzero(np.diff(numbers) != 1)))
            + (0 if is_zero else len(numbers) * PAGE_SIZE)
            for numbers, is_zero in client.got
        )

    @pytest.mark.parametrize("size", [1, 16, 23, 25])
    def test_checked_requests_that_come_in_pieces_are_answered(
        self, serve: Serve, size: int
    ) -> None:
        _, client = serve(checked=True)
        pages = (7, 100, 4094, 300)
        data = b"".join(encoder.encode_request(page, 2, checked=True) for page in pages)
        for at in range(0, len(data), size):
            client.sock.sendall(data[at : at + size])
        client.take(11)
        assert sorted(client.pages) == [7, 8, 9, 100, 101, 102, 300, 301, 302, 4094, 4095]

    @pytest.mark.parametrize("at", range(24))
    def test_a_request_with_a_wrong_bit(self, serve: Serve, at: int) -> None:
        server, client = serve(checked=True)
        data = bytearray(encoder.encode_request(7, 2, checked=True))
        data[at] ^= 4
        client.sock.sendall(data)
        assert isinstance(wait_for_failure(server), CorruptFrame)
        assert server.stats().pages == 0


class TestConnection:
    @pytest.mark.parametrize("name", NONSENSE)
    def test_nonsense_ends_it(self, serve: Serve, name: str) -> None:
        server, client = serve()
        client.ask(1)
        client.sock.sendall(NONSENSE[name])
        assert isinstance(wait_for_failure(server), RemoteProtocolError)
        decoder = FrameDecoder(n_pages=N_PAGES, requests=True)
        decoder.buffers()[0][:] = NONSENSE[name]
        with contextlib.suppress(RemoteProtocolError):  # the codec is of the same mind
            assert not any(isinstance(f, RequestFrame) for f in decoder.received(16))

    @pytest.mark.parametrize("cut", [0, 3])
    def test_a_connection_that_breaks_within_a_request_is_reported(
        self, serve: Serve, cut: int
    ) -> None:
        server, client = serve()
        client.ask(1)
        client.take(1)
        client.sock.sendall(encoder.encode_request(2)[:cut])
        client.sock.close()
        failure = wait_for_failure(server)
        assert isinstance(failure, ConnectionBroken)
        assert ("within a request" in str(failure)) == bool(cut)

    def test_stopping_a_server_whose_peer_does_not_read(self, serve: Serve) -> None:
        server, client = serve()
        client.ask(0, 4000)
        time.sleep(0.1)
        start = time.monotonic()
        server.stop()
        server.stop()
        assert time.monotonic() - start < 1

    def test_another_connection_after_a_loss(self, serve: Serve, memory: GuestMemory) -> None:
        server, client = serve()
        client.ask(0, 1000)
        client.take(100)
        with pytest.raises(LocalProtocolError):
            server.resync(np.ones(N_PAGES, np.bool_))
        server.stop()
        missing = np.ones(N_PAGES, np.bool_)
        missing[client.pages] = False
        server.resync(missing)
        assert set(np.flatnonzero(server.sent == UNSENT)) == set(np.flatnonzero(missing))
        with pytest.raises(RemoteProtocolError):
            server.resync(missing[1:])
        again: Client = serve.connect(server)  # type: ignore[attr-defined]
        assert server.failure is None
        again.ask(0, N_PAGES - 1)
        again.take(int(np.count_nonzero(missing)) + 1)  # and the one that was demanded again
        assert sorted({*again.pages, *client.pages}) == list(range(N_PAGES))
        assert matches(again, memory, again.pages)

    def test_nothing_is_left_behind(self, memory: GuestMemory) -> None:
        def inventory() -> tuple[int, int]:
            return threading.active_count(), len(os.listdir("/proc/self/fd"))

        before = inventory()
        for _ in range(3):
            here, there = socket.socketpair()
            with here, there:
                server = PageServer(memory, np.zeros(N_PAGES, np.uint8))
                server.serve(here)
                with pytest.raises(LocalProtocolError):
                    server.serve(here)
                server.close()
                server.close()
        assert inventory() == before

    def test_marks_of_another_kind_are_refused(self, memory: GuestMemory) -> None:
        with pytest.raises(ValueError, match=r"uint8\[4096\]"):
            PageServer(memory, np.zeros(5, np.uint8))


class TestPushing:
    @given(
        sent=st.lists(st.sampled_from([UNSENT, PUSHED, PULLED]), min_size=1, max_size=70),
        start=st.integers(0, 69),
        most=st.integers(1, 20),
        offset=st.integers(0, 7),
    )
    def test_the_next_unsent_pages_are_taken_once_and_around_the_end(
        self, sent: list[int], start: int, most: int, offset: int
    ) -> None:
        start %= len(sent)
        marks = np.zeros(len(sent) + offset, np.uint8)[offset:]
        marks[:] = sent
        out = np.zeros(most, np.int64)
        taken: list[int] = []
        left = [i for i, mark in enumerate(sent) if mark == UNSENT]
        expected = [i for i in left if i >= start][:most] or left[:most]
        n = next_unsent(marks, start, most, out)
        assert out[:n].tolist() == expected
        while n:
            taken += out[:n].tolist()
            n = next_unsent(marks, start, most, out)
        assert sorted(taken) == left
        for i, mark in enumerate(sent):
            assert marks[i] == (mark or PUSHED)

    def test_it_goes_on_ahead_of_the_last_demanded_page(self, serve: Serve) -> None:
        server, client = serve()
        out = np.zeros(10, np.int64)
        assert server.take_unsent(out).tolist() == list(range(10))
        assert server.take_unsent(out).tolist() == list(range(10, 20))
        client.ask(1000, 3)
        client.take(4)
        ahead = 1000 + PUSH_LEAD
        assert server.take_unsent(out).tolist() == list(range(ahead, ahead + 10))
        assert server.take_unsent(out).tolist() == list(range(ahead + 10, ahead + 20))
        client.ask(4091 - PUSH_LEAD)
        client.take(5)
        assert server.take_unsent(out).tolist() == list(range(4091, 4096))
        assert server.take_unsent(out).tolist() == list(range(20, 30))

    def test_everything_goes_once_whoever_sends_it(self, serve: Serve) -> None:
        server, client = serve()
        pushed: list[NDArray[np.int64]] = []

        def push() -> None:
            out = np.zeros(7, np.int64)
            while len(pages := server.take_unsent(out)):
                pushed.append(pages.copy())

        thread = threading.Thread(target=push)
        client.ask(0, 65535)
        thread.start()
        client.ask(2000, 65535)
        thread.join()
        by_push = np.concatenate(pushed) if pushed else np.zeros(0, np.int64)
        client.take(N_PAGES - len(by_push))
        while server.stats().demands < 2:
            time.sleep(0.001)
        crossed = server.stats().crossed
        client.take(N_PAGES - len(by_push) + crossed)
        assert client.nothing_comes()
        assert len({*client.pages, *by_push.tolist()}) == N_PAGES
        assert (server.sent != UNSENT).all()
