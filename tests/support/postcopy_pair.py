"""Post-copy in one process: two guests, real sockets, real threads."""

from __future__ import annotations

import contextlib
import encodings.idna  # noqa: F401 - a child without privileges may not be able to
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pageferry.common.config.guest import GuestConfig
from pageferry.common.config.prepage import ADAPTIVE, Prepage
from pageferry.common.errors import ConnectionBroken
from pageferry.common.guest.machine import Guest
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire import encoder
from pageferry.common.wire.bulk_receiver import BulkReceiver
from pageferry.common.wire.decoder import FrameDecoder
from pageferry.common.wire.extents import from_pages
from pageferry.common.wire.frames import Frame, PagesFrame, RequestFrame, ZeroFrame
from pageferry.common.wire.probes import ProbeFrame
from pageferry.common.wire.stream_format import StreamFormat
from pageferry.dest_agent.postcopy.fault_handler import FaultHandler
from pageferry.dest_agent.postcopy.mechanism import Mechanism
from pageferry.source_agent.postcopy.page_server import PageServer


def until(ready: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not ready():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.0005)


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a connection over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    for sock in (one, other):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one, other


def encode(memory: memoryview, pages: NDArray[np.int64]) -> bytes:
    """A PAGES frame of sorted pages."""
    extents = from_pages(pages)
    return encoder.encode_pages_head(extents) + b"".join(
        memory[first * PAGE_SIZE : (first + count) * PAGE_SIZE] for first, count in extents.tolist()
    )


class Peer:
    """The source's end of an urgent connection, in Python, with the codec that ships."""

    def __init__(self, sock: socket.socket, n_pages: int) -> None:
        self.sock = sock
        self.sock.settimeout(10)
        self._decoder = FrameDecoder(n_pages=n_pages, requests=True, attempt=0)
        self._frames: list[Frame] = []

    def request(self) -> RequestFrame:
        while not self._frames:
            n = self.sock.recv_into(self._decoder.buffers()[0])
            assert n, "the handler hung up"
            came = self._decoder.received(n)
            self._frames += [frame for frame in came if not isinstance(frame, ProbeFrame)]
        frame = self._frames.pop(0)
        assert isinstance(frame, RequestFrame)
        return frame

    def quiet(self) -> bool:
        """Whether no request comes for a moment."""
        self.sock.settimeout(0.05)
        try:
            self.request()
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(10)
        return False


class Post:
    """A guest on its way: `source` paused at some step, `dest` restored, `faults` not armed."""

    def __init__(
        self,
        mechanism: Mechanism,
        steps: int = 5000,
        *,
        prepage: Prepage = ADAPTIVE,
        rate_Bps: float = float("inf"),
        checked: bool = False,
        **options: Any,
    ) -> None:
        settings = {"memory": "8MiB", "cache": "64KiB", **options}
        config = GuestConfig(**settings)
        self._closing = contextlib.ExitStack()
        self.source = Guest(config, boot=True)
        self._closing.callback(self.source.close)
        self.source.start()
        self.source.run_until([steps] * config.vcpus)
        self.source.drain()
        self.dest = Guest(config, boot=False)
        self._closing.callback(self.dest.close)
        self.n_pages = config.pages
        self.faults = FaultHandler(
            self.dest, mechanism, prepage=prepage, stream=StreamFormat(checksum=checked)
        )
        self._closing.callback(self.faults.close)
        self.sent = np.zeros(self.n_pages, np.uint8)
        self.server = PageServer(
            self.source.memory, self.sent, rate_Bps=rate_Bps, stream=StreamFormat(checksum=checked)
        )
        self._closing.callback(self.server.close)
        self.server.open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def arm(self, missing: NDArray[np.bool_] | None = None, **options: Any) -> None:
        self.dest.restore(self.source.snapshot())
        self.dest.start()
        everything = np.ones(self.n_pages, np.bool_)
        self.faults.arm(everything if missing is None else missing, **options)

    def serve(self) -> None:
        here, there = (self._own(sock) for sock in tcp_pair())
        self.server.serve(here)
        self.faults.connect(there)

    def serve_cut_after(self, n: int) -> None:
        """Serve through a relay that lets `n` bytes of answers through, and then no more."""
        here, near = (self._own(sock) for sock in tcp_pair())
        far, there = (self._own(sock) for sock in tcp_pair())

        def forward(source: socket.socket, sink: socket.socket, left: float) -> None:
            with contextlib.suppress(OSError):
                while left and (data := source.recv(int(min(left, 5000)))):
                    sink.sendall(data)
                    left -= len(data)
            for sock in (source, sink):
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

        for args in ((near, far, n), (far, near, float(2**40))):
            thread = threading.Thread(target=forward, args=args)
            thread.start()
            self._closing.callback(thread.join)
        self.server.serve(here)
        self.faults.connect(there)

    def peer(self) -> Peer:
        here, there = (self._own(sock) for sock in tcp_pair())
        self.faults.connect(there)
        return Peer(here, self.n_pages)

    def _own(self, sock: socket.socket) -> socket.socket:
        self._closing.callback(sock.close)
        return sock

    def answer(self, peer: Peer, *pages: int) -> None:
        peer.sock.sendall(encode(self.source.memory.view, np.array(pages, np.int64)))

    def push_in(self, *pages: int) -> None:
        """As if a bulk receiver had had these pages in its staging buffers."""
        staging = self.faults.staging()
        extents = from_pages(np.array(pages, np.int64))
        (buffer,) = staging.buffers(extents)
        buffer[:] = self.source.memory.pages[list(pages)].tobytes()
        staging.arrived(PagesFrame(extents, len(pages)))

    def push(self, batch: int = 64, pause_s: float = 0.0) -> None:
        """All that is unsent, over a bulk connection, until it has been placed."""
        here, there = (self._own(sock) for sock in tcp_pair())
        staging = self.faults.staging()
        receiver = BulkReceiver(there, staging, self.n_pages)

        def deliver(frame: Frame) -> None:
            if isinstance(frame, PagesFrame):
                staging.arrived(frame)
            else:
                assert isinstance(frame, ZeroFrame)
                staging.zero(frame)

        failures: list[ConnectionBroken] = []

        def receive() -> None:
            try:
                receiver.run(deliver)
            except ConnectionBroken as error:
                failures.append(error)

        thread = threading.Thread(target=receive)
        thread.start()
        out = np.zeros(batch, np.int64)
        while len(pages := self.server.take_unsent(out)):
            zero = self.source.memory.zero_pages(pages)
            if zero.any():
                here.sendall(encoder.encode_zero(from_pages(pages[zero])))
            if not zero.all():
                here.sendall(encode(self.source.memory.view, pages[~zero]))
            time.sleep(pause_s)
        here.shutdown(socket.SHUT_WR)
        thread.join(20)
        assert not thread.is_alive()
        assert not failures

    def finish(self) -> None:
        """Everything has come: the guest that moved is the guest that did not."""
        until(lambda: self.faults.missing_count == 0)
        assert not self.faults.missing_pages().any()
        self.faults.disarm()
        goal = [n + 20 for n in self.dest.steps()]
        until(lambda: all(a >= b for a, b in zip(self.dest.steps(), goal, strict=True)))
        self.verify()

    def verify(self) -> None:
        self.dest.pause()
        self.source.run_until(self.dest.steps())
        for guest in (self.source, self.dest):
            guest.drain()
            assert guest.check() is None
        assert self.dest.digest() == self.source.digest()
