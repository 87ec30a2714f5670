"""What a link really does, measured before it is used: round trip and throughput over TCP.

Both ends are in this process, in whichever namespaces their sockets were made.
"""

from __future__ import annotations

import contextlib
import socket
import statistics
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from pydantic import BaseModel

from pageferry.common.errors import PageferryError
from pageferry.common.process.threads import WatchedThread

_PATIENCE_S: Final = 30.0  # a link on which nothing moves for so long carries nothing
_PROBES: Final = 15
_PROBING_S: Final = 1.0
_PIECE: Final = bytes(256 * 1024)
_LEAST_S: Final = 0.3
_MOST_S: Final = 2.0
# Ethernet, IPv4, TCP with time stamps: what the shapers count beside the payload.
HEADERS: Final = 14 + 20 + 32
_CONGESTION: Final = b"cubic"

Listen = Callable[[], socket.socket]
Dial = Callable[[tuple[str, int]], socket.socket]


class Measured(BaseModel):
    """rtt_ms: the median of some round trips of a byte. throughput_*: of payload, one connection.

    wire_*: the same with the headers of its segments, which is what a shaper counts.
    """

    rtt_ms: float
    throughput_Bps: float
    throughput_back_Bps: float
    wire_Bps: float
    wire_back_Bps: float


def measure(
    listener: socket.socket,
    dial: Callable[[], socket.socket],
    check: Callable[[], None] = lambda: None,
) -> Measured:
    """Over the link between `listener` (the destination's end) and `dial` (the source's).

    check: called now and then; what it raises ends the measuring. Raises `PageferryError` where the
    link carries nothing.
    """
    try:
        with _connected(listener, dial) as (near, far):
            rtt_s = _round_trip(near, far)
        check()
        with _connected(listener, dial) as (near, far):
            there, there_wire = _throughput(near, far, rtt_s)
        check()
        with _connected(listener, dial) as (near, far):
            back, back_wire = _throughput(far, near, rtt_s)
    except OSError as error:
        raise PageferryError(f"the link could not be measured: {error}") from None
    return Measured(
        rtt_ms=rtt_s * 1e3,
        throughput_Bps=there,
        throughput_back_Bps=back,
        wire_Bps=there_wire,
        wire_back_Bps=back_wire,
    )


@contextlib.contextmanager
def _connected(
    listener: socket.socket, dial: Callable[[], socket.socket]
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection. What is under way at its end is forgotten, not waited for."""
    listener.settimeout(_PATIENCE_S)
    with dial() as near:
        far, _ = listener.accept()
        with far:
            for end in (near, far):
                end.settimeout(_PATIENCE_S)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _CONGESTION)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            yield near, far


def _round_trip(near: socket.socket, far: socket.socket) -> float:
    """Seconds: the median of a few, a byte there and back."""

    def echo() -> None:
        with contextlib.suppress(OSError):
            while data := far.recv(1):
                far.send(data)

    thread = WatchedThread(echo, "echo", lambda _error: _hang_up(near, far), daemon=False)
    thread.start()
    times: list[float] = []
    try:
        deadline = time.monotonic() + _PROBING_S
        while len(times) < 3 or (len(times) < _PROBES and time.monotonic() < deadline):
            started = time.monotonic()
            near.send(b"?")
            if not near.recv(1):
                thread.raise_failure()
                raise PageferryError("the link could not be measured: it was closed")
            times.append(time.monotonic() - started)
    finally:
        _hang_up(near, far)
        thread.join()
    return statistics.median(times)


def _throughput(
    sender: socket.socket, receiver: socket.socket, rtt_s: float
) -> tuple[float, float]:
    """Bytes/s of payload, and with headers, once the stream has found its speed."""
    stop = threading.Event()

    def send() -> None:
        with contextlib.suppress(OSError):
            while not stop.is_set():
                sender.sendall(_PIECE)

    thread = WatchedThread(send, "stream", lambda _error: _hang_up(sender), daemon=False)
    thread.start()
    try:
        # A slow start that has overshot is mended by then: what lay behind the hole would count.
        warm_s = min(_LEAST_S / 2 + 20 * rtt_s, _MOST_S)
        span_s = min(_LEAST_S + 10 * rtt_s, _MOST_S)
        buffer = bytearray(1 << 20)
        _receive_for(receiver, buffer, warm_s)
        received, seconds = _receive_for(receiver, buffer, span_s)
        segment = receiver.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
    except PageferryError:
        thread.raise_failure()
        raise
    finally:
        stop.set()
        _hang_up(receiver, sender)
        thread.join()
    rate = received / seconds
    return rate, rate * (segment + HEADERS) / segment


def _hang_up(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _receive_for(receiver: socket.socket, buffer: bytearray, span_s: float) -> tuple[int, float]:
    """(bytes, seconds) until the first piece that ends the span, which is counted."""
    started = last = time.monotonic()
    received = 0
    while last - started < span_s:
        count = receiver.recv_into(buffer)
        if not count:
            raise PageferryError("the link could not be measured: it was closed")
        received += count
        last = time.monotonic()
    return received, last - started
