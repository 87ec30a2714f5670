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


class LinkMeasurement(BaseModel):
    """What a link was measured to do.

    Attributes:
        rtt_ms: Median of some round trips of one byte, in milliseconds.
        throughput_Bps: Payload of one connection from source to destination, bytes/s.
        throughput_back_Bps: The same from destination to source.
        wire_Bps: Throughput with the headers of its segments, which is what a shaper counts.
        wire_back_Bps: The same from destination to source.
    """

    rtt_ms: float
    throughput_Bps: float
    throughput_back_Bps: float
    wire_Bps: float
    wire_back_Bps: float


def measure_link(
    listener: socket.socket,
    dial: Callable[[], socket.socket],
    check: Callable[[], None] = lambda: None,
) -> LinkMeasurement:
    """Measure a link, with three TCP connections one after another.

    Args:
        listener: Listening socket at the destination's end; its timeout is changed, and it is not
            closed.
        dial: Connects to it from the source's end; called for each connection.
        check: Called now and then; what it raises ends the measuring.

    Returns:
        Round trip, and throughput in both directions.

    Raises:
        PageferryError: The link carries nothing, or broke.
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
    return LinkMeasurement(
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
    """Yield both ends of a connection; what is under way at its end is dropped, not waited for."""
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
    """Measure the round trip of a byte, in seconds: the median of a few."""

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
    """Measure bytes/s of payload, and with headers, once the stream has found its speed."""
    stop = threading.Event()

    def send() -> None:
        with contextlib.suppress(OSError):
            while not stop.is_set():
                sender.sendall(_PIECE)

    thread = WatchedThread(send, "stream", lambda _error: _hang_up(sender), daemon=False)
    thread.start()
    try:
        # By then a slow start that overshot has recovered: what was stuck behind the hole would
        # otherwise count.
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
    """Receive for a while; return bytes and seconds, with the piece that ends the span counted."""
    started = last = time.monotonic()
    received = 0
    while last - started < span_s:
        count = receiver.recv_into(buffer)
        if not count:
            raise PageferryError("the link could not be measured: it was closed")
        received += count
        last = time.monotonic()
    return received, last - started
