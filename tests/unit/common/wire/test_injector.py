"""Faults on real sockets: what the peer then sees."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from pageferry.common.errors import ConnectionBroken
from pageferry.common.inject import FaultPlan, parse_injection
from pageferry.common.timeline import Timeline
from pageferry.common.wire.connection import Connection
from pageferry.common.wire.injector import Injector


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = socket.create_connection(server.getsockname(), timeout=10)
        there, _ = server.accept()
    there.settimeout(10)
    with here, there:
        yield here, there


def injector(*faults: str) -> Injector:
    return Injector(FaultPlan([parse_injection(text) for text in faults]), Timeline("source"))


def is_reset(sock: socket.socket) -> bool:
    try:
        sock.recv(1)
    except OSError as error:
        return error.errno in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN)
    return False


def test_a_cut_resets_both_ends_and_wakes_who_waits(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    here, there = pair
    faults = injector("paused:cut")
    faults.opened(here)
    woken: list[bool] = []
    here.settimeout(None)
    waiter = threading.Thread(target=lambda: woken.append(is_reset(here)), daemon=True)
    waiter.start()
    faults.reached("connected")
    here.sendall(b"still there")
    assert there.recv(100) == b"still there"
    faults.reached("paused")
    waiter.join(10)
    assert woken == [True]
    assert is_reset(there)
    assert here.fileno() >= 0  # nobody else has been given its number


def test_a_cut_in_the_middle_of_a_frame(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    faults = injector("paused:cut:7")
    faults.opened(here)
    frame: list[bytes | memoryview] = [b"head", memoryview(b"payload")]
    assert faults.outgoing(here, frame) is frame
    faults.reached("paused")
    small: list[bytes | memoryview] = [b"abc"]
    assert faults.outgoing(here, small) is small  # 4 bytes are left
    rest = faults.outgoing(here, frame)
    assert [bytes(buffer) for buffer in rest] == [b"payload"]
    with pytest.raises(OSError, match=r"reset|pipe"):
        here.sendmsg(rest)
    assert there.recv(100) == b"head"
    assert is_reset(there)
    assert faults.outgoing(here, frame) is frame


@pytest.mark.parametrize(("offset", "index", "at"), [("", 1, 0), (":5", 2, 1), (":9", 2, 5)])
def test_one_bit_of_the_next_frame_with_a_payload(offset: str, index: int, at: int) -> None:
    faults = injector(f"paused:corrupt{offset}")
    faults.reached("paused")
    alone = [b"a barrier has no payload"]
    with socket.socket() as sock:
        assert faults.outgoing(sock, alone) is alone
        frame = [b"head", b"page", b"second"]
        spoilt = [bytearray(buffer) for buffer in faults.outgoing(sock, frame)]
        assert spoilt != frame
        spoilt[index][at] ^= 1
        assert spoilt == frame
        assert faults.outgoing(sock, frame) is frame


def test_slow_is_the_senders_rate_or_the_readers() -> None:
    rates: list[float] = []
    plan = FaultPlan([parse_injection("paused:slow:5MB/s")])
    Injector(plan, Timeline("source"), rates.append).reached("paused")
    assert rates == [5e6]
    reader = injector("ready:slow:1kB/s")
    reader.incoming(10**9)  # not slow yet: it would take for ever
    reader.reached("ready")
    reader.incoming(1)
    threading.Timer(0.05, reader.close).start()
    reader.incoming(10**9)  # what waits is let go when the session is over
    reader.incoming(1)


def test_points_of_post_copy_are_reached_in_order() -> None:
    faults = injector("source/postcopy-90%:slow:1MB/s", "source/postcopy-10%:corrupt")
    events = faults._timeline
    assert faults.reached_share(0.09)
    assert events.events == []
    assert faults.reached_share(0.5)
    assert [event.fields["fault"] for event in events.events] == ["source/postcopy-10%:corrupt"]
    assert not faults.reached_share(1.0)
    assert len(events.events) == 2


_CHILD = """
import sys, threading, time
from pageferry.common.errors import ConnectionBroken
from pageferry.common.inject import FaultPlan, parse_injection
from pageferry.common.timeline import Timeline
from pageferry.common.wire.injector import Injector
faults = Injector(FaultPlan([parse_injection(sys.argv[1])]), Timeline("source"))
longest = [0.0]
looked = threading.Event()
def watch():
    last = time.monotonic()
    while True:
        now = time.monotonic()
        longest[0] = max(longest[0], now - last)
        last = now
        looked.set()
        time.sleep(0.01)
threading.Thread(target=watch, daemon=True).start()
looked.wait()
faults.reached("paused")
for _ in range(2):  # the first of them may be a look that had begun before
    looked.clear()
    looked.wait()
print(longest[0])
"""


def test_a_stall_stops_every_thread_and_a_kill_ends_it() -> None:
    def run(fault: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", _CHILD, fault]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    stalled = run("paused:stall:500ms")
    assert stalled.returncode == 0
    assert float(stalled.stdout) >= 0.4
    assert run("paused:kill").returncode == -9


async def test_a_peer_that_says_nothing_is_taken_for_gone(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    here, _there = pair
    here.setblocking(False)
    connection = Connection(here, "the peer", stall_s=0.2)
    with pytest.raises(ConnectionBroken, match=r"the peer said nothing for 0\.2 s"):
        await connection.receive()


async def test_a_peer_that_reads_nothing_is_taken_for_gone(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    here, _there = pair
    here.setblocking(False)
    connection = Connection(here, "the peer", stall_s=0.2)
    started = time.monotonic()
    with pytest.raises(ConnectionBroken, match=r"the peer took nothing for 0\.2 s"):
        await connection._write(bytes(2**26))
    assert time.monotonic() - started >= 0.2
