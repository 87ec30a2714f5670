"""Bulk pages and demanded pages over TLS: what comes out is what went in, and nothing in clear."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pageferry.common.errors import ConnectionBroken
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire import encoder, tls
from pageferry.common.wire.bulk_receiver import BulkReceiver
from pageferry.common.wire.bulk_sender import BulkSender
from pageferry.common.wire.extents import from_pages, to_pages
from pageferry.common.wire.frames import BarrierFrame, Frame, PagesFrame
from pageferry.common.wire.link_policy import LinkPolicy
from pageferry.common.wire.pacing import Pacer
from pageferry.common.wire.tls import records_size
from pageferry.common.wire.tls_credentials import client_tls, server_tls
from pageferry.common.wire.tls_threads import plain_end
from tests.support.page_store import PageStore

N_PAGES = 1024


Pair = tuple[ssl.SSLSocket, ssl.SSLSocket]


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    return one, other


@pytest.fixture
def pair(folder: Path) -> Iterator[Pair]:
    """The source's end, and the destination's."""
    one, other = tcp_pair()
    done: list[ssl.SSLSocket] = []
    thread = threading.Thread(
        target=lambda: done.append(server_tls(folder).wrap_socket(other, server_side=True))
    )
    thread.start()
    here = client_tls(folder).context.wrap_socket(one, server_hostname="localhost")
    thread.join()
    with here, done[0]:
        yield here, done[0]


@pytest.mark.parametrize("step", [1, 2, 7])
def test_pages_over_tls_arrive_as_they_were(pair: Pair, step: int) -> None:
    pages = np.arange(3, N_PAGES, step, dtype=np.int64)[:900]
    content = np.random.default_rng(1).integers(0, 256, (N_PAGES, PAGE_SIZE), np.uint8)
    extents = from_pages(pages)
    view = content.reshape(-1).data
    views = [view[f * PAGE_SIZE : (f + c) * PAGE_SIZE] for f, c in extents.tolist()]
    sender, store = BulkSender(pair[0], Pacer(float("inf"))), PageStore(N_PAGES)
    receiver = BulkReceiver(pair[1], store, N_PAGES)
    got: list[Frame] = []
    thread = threading.Thread(target=receiver.run, args=(got.append,))
    thread.start()
    size = sender.send([encoder.encode_pages_head(extents), *views])
    size += sender.send([encoder.encode_barrier(1)])
    tls.shutdown_socket(pair[0], socket.SHUT_WR)
    thread.join()
    assert [type(frame) for frame in got] == [PagesFrame, BarrierFrame]
    assert isinstance(got[0], PagesFrame)
    assert to_pages(got[0].extents).tolist() == pages.tolist()
    expected = np.full((N_PAGES, PAGE_SIZE), 0xEE, np.uint8)
    expected[pages] = content[pages]
    assert np.array_equal(store.memory, expected)
    plain = receiver.received_bytes
    assert size == sender.sent_bytes > plain
    # Records are hardly ever short: what is small shares them.
    assert size == pytest.approx(records_size(plain), rel=0.001, abs=100)


def test_what_is_counted_is_what_is_sent(folder: Path) -> None:
    """By somebody who counts what really travels."""
    one, other = tcp_pair()
    client, server = tcp_pair()
    counted = [0]

    def carry(source: socket.socket, sink: socket.socket, count: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                counted[0] += len(data) if count else 0
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    carriers = [
        threading.Thread(target=carry, args=(other, client, True)),
        threading.Thread(target=carry, args=(client, other, False)),
    ]
    for carrier in carriers:
        carrier.start()
    received = [0]

    def serve() -> None:
        with server_tls(folder).wrap_socket(server, server_side=True) as secure:
            while data := secure.recv(65536):
                received[0] += len(data)

    serving = threading.Thread(target=serve)
    serving.start()
    here = client_tls(folder).context.wrap_socket(one, server_hostname="localhost")
    before = counted[0]
    sender = BulkSender(here, Pacer(float("inf")))
    for n in (1, 100, 16384, 16385, 3_000_000):
        sender.send([bytes(n)])
    sender.send([bytes(4096)] * 500)
    tls.shutdown_socket(here, socket.SHUT_WR)
    for thread in (serving, *carriers):
        thread.join()
    for sock in (here, other, client):
        sock.close()
    assert received[0] == 1 + 100 + 16384 + 16385 + 3_000_000 + 500 * 4096
    assert counted[0] - before == pytest.approx(sender.sent_bytes, abs=4000)  # a late Finished


def test_an_abort_from_another_thread(pair: Pair) -> None:
    """Whoever is in `send` fails, and not a byte of it goes out in clear."""
    secret = hashlib.sha256(b"secret").digest() * 2048
    sender = BulkSender(pair[0], Pacer(float("inf")))
    failures: list[Exception] = []

    def send() -> None:
        try:
            while True:
                sender.send([secret] * 16)
        except ConnectionBroken as error:
            failures.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    pair[1].recv(1)  # it is under way
    sender.abort()
    thread.join(10)
    assert not thread.is_alive()
    assert len(failures) == 1
    assert pair[0].version() == "TLSv1.3"  # and no socket of plain bytes, not for a moment
    raw = bytearray()
    with contextlib.suppress(OSError):
        while part := socket.socket.recv(pair[1], 65536):
            raw += part
    assert secret[:32] not in raw
    with pytest.raises(ConnectionBroken):
        sender.send([secret])


def test_a_peer_that_reads_nothing(pair: Pair) -> None:
    sender = BulkSender(pair[0], Pacer(float("inf")), link=LinkPolicy(stall_s=0.2))
    with pytest.raises(ConnectionBroken, match="took no byte"):
        sender.send([bytes(2**20)] * 200)


def pumps() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "tls-urgent"]


def gone(threads: list[threading.Thread]) -> bool:
    for thread in threads:
        thread.join(10)
    return not any(thread.is_alive() for thread in threads)


class TestPlainEnd:
    def test_both_directions_at_once(self, pair: Pair) -> None:
        one, other = plain_end(pair[0]), plain_end(pair[1])
        data = np.random.default_rng(3).integers(0, 256, 3_000_000, np.uint8).tobytes()
        got: dict[str, bytearray] = {"one": bytearray(), "other": bytearray()}

        def read(name: str, sock: socket.socket) -> None:
            while len(got[name]) < len(data):
                part = sock.recv(65536)
                assert part
                got[name] += part

        threads = [
            threading.Thread(target=read, args=("one", one)),
            threading.Thread(target=read, args=("other", other)),
            threading.Thread(target=one.sendall, args=(data,)),
            threading.Thread(target=other.sendall, args=(data,)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert got["one"] == got["other"] == data
        running = pumps()
        one.close()
        assert other.recv(1) == b""
        other.close()
        assert gone(running)

    def test_what_was_sent_before_the_end_arrives(self, pair: Pair) -> None:
        one, other = plain_end(pair[0]), plain_end(pair[1])
        one.sendall(bytes(1000))
        one.close()
        got = b""
        while part := other.recv(65536):
            got += part
        assert len(got) == 1000
        other.close()
        assert gone(pumps())

    def test_the_other_side_is_gone(self, pair: Pair) -> None:
        one = plain_end(pair[0])
        pair[1].close()
        assert one.recv(1) == b""
        one.close()
        assert gone(pumps())

    def test_shutting_it_down_frees_who_sends(self, pair: Pair) -> None:
        """As the page server is stopped while its peer reads nothing."""
        one = plain_end(pair[0])
        failures: list[OSError] = []

        def send() -> None:
            try:
                while True:
                    one.sendall(bytes(65536))
            except OSError as error:
                failures.append(error)

        thread = threading.Thread(target=send)
        thread.start()
        pair[1].recv(1)
        one.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        assert len(failures) == 1
        one.close()
        assert gone(pumps())  # though its peer still reads nothing
