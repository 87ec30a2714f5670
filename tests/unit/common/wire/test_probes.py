"""Probes: answered where they must be, illegal elsewhere, and idle connections are never quiet."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.errors import RemoteProtocolError
from pageferry.common.wire import encoder, frames, header, messages
from pageferry.common.wire.bulk_receiver import BulkReceiver
from pageferry.common.wire.bulk_sender import BulkSender
from pageferry.common.wire.connection import Connection
from pageferry.common.wire.decoder import FrameDecoder
from pageferry.common.wire.pacing import Pacer
from pageferry.common.wire.probes import (
    IDLE_S,
    MAX_ATTEMPT,
    MAX_NUMBER,
    AnswerFrame,
    OutstandingProbes,
    ProbeFrame,
)
from pageferry.common.wire.stream_format import StreamFormat

PING = messages.Ping(t_ns=1)


def decoded(data: bytes, attempt: int | None, *, checked: bool = False) -> list[frames.Frame]:
    decoder = FrameDecoder(attempt=attempt, stream=StreamFormat(checksum=checked))
    out: list[frames.Frame] = []
    while data:
        buffer = decoder.buffers()[0]
        n = min(len(buffer), len(data))
        buffer[:n] = data[:n]
        out += decoder.received(n)
        data = data[n:]
    return out


@given(st.integers(0, MAX_ATTEMPT), st.integers(0, MAX_NUMBER), st.booleans())
def test_what_is_encoded_is_decoded(attempt: int, number: int, checked: bool) -> None:
    data = encoder.encode_probe(attempt, number, checked=checked)
    data += encoder.encode_answer(attempt, number, checked=checked)
    came = decoded(data, attempt, checked=checked)
    assert came == [ProbeFrame(attempt, number), AnswerFrame(attempt, number)]


@pytest.mark.parametrize("attempt", [None, 1, 3, MAX_ATTEMPT])
def test_another_attempt_is_illegal(attempt: int | None) -> None:
    with pytest.raises(RemoteProtocolError, match="attempt 2"):
        decoded(encoder.encode_probe(2, 7), attempt)


def test_a_probe_has_no_body() -> None:
    with pytest.raises(RemoteProtocolError, match="a probe of 8 bytes"):
        decoded(header.HEADER.pack(frames.FrameType.PROBE, 0, 1, 0, 8), 0)


def test_only_what_was_asked_is_answered() -> None:
    asked = OutstandingProbes()
    first, second = asked.next(1.0), asked.next(2.0)
    asked.take(first, 1.5)
    assert (asked.answered, asked.round_trip_s, len(asked)) == (1, 0.5, 1)
    for wrong in (first, second + 1):
        with pytest.raises(RemoteProtocolError, match="not asked"):
            asked.take(wrong, 3.0)
    asked.take(second, 3.0)
    with pytest.raises(RemoteProtocolError):
        asked.take(second, 3.0)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    yield one, other
    one.close()
    other.close()


async def test_a_control_connection_answers(pair: tuple[socket.socket, socket.socket]) -> None:
    ends = []
    for sock in pair:
        sock.setblocking(False)
        ends.append(Connection(sock, "peer"))
        ends[-1].belong(3)
    readers = [asyncio.create_task(end.receive()) for end in ends]
    async with asyncio.timeout(10):
        assert all(took >= 0 for took in await asyncio.gather(*(e.probe() for e in ends * 3)))
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)


async def test_nobody_is_probed_before_the_hello(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    for sock in pair:
        sock.setblocking(False)
    connection = Connection(pair[0], "peer")
    pair[1].send(encoder.encode_probe(0, 1, checked=True))
    with pytest.raises(RemoteProtocolError, match="none is due"):
        await connection.receive()


class TestBulk:
    """A sender and a receiver that have nothing to do."""

    @pytest.mark.parametrize("checked", [False, True])
    def test_both_directions_are_kept_open(
        self, pair: tuple[socket.socket, socket.socket], checked: bool
    ) -> None:
        sender = BulkSender(
            pair[0], Pacer(float("inf")), attempt=2, stream=StreamFormat(checksum=checked)
        )
        receiver = BulkReceiver(pair[1], None, 16, attempt=2, stream=StreamFormat(checksum=checked))  # type: ignore[arg-type]
        seen: list[frames.Frame] = []
        thread = threading.Thread(target=receiver.run, args=(seen.append,))
        thread.start()
        size = 24 if checked else 16
        while receiver.received_bytes < 2 * size:
            sender.keep_open()
            select.select([], [], [], 0.01)
        poll = select.poll()
        poll.register(pair[0], select.POLLIN)
        assert poll.poll(1000 * 10 * IDLE_S)  # the receiver's own
        barrier = encoder.encode_barrier(1, checked=checked)
        sender.send([barrier])
        assert sender.sent_bytes == 2 * size + len(barrier)
        sender.abort()
        thread.join(10)
        assert [type(frame) for frame in seen] == [frames.BarrierFrame]

    @pytest.mark.parametrize(
        "said",
        [
            encoder.encode_barrier(1),
            encoder.encode_probe(1, 0),
            encoder.encode_answer(0, 0),
            bytes(16),
        ],
    )
    def test_who_reads_pages_says_nothing_else(
        self, pair: tuple[socket.socket, socket.socket], said: bytes
    ) -> None:
        sender = BulkSender(pair[0], Pacer(float("inf")))
        pair[1].send(said)
        sender._listened_at -= 2 * IDLE_S
        with pytest.raises(RemoteProtocolError):
            sender.send([encoder.encode_barrier(1)])


def test_a_lost_demand_does_not_wait_for_the_usual_timers() -> None:
    """Both ends; where this kernel can."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
    before = [timer(one, option) for option in (45, 46)]
    if None in before:
        pytest.skip("this kernel has no TCP_RTO_MIN_US or no TCP_DELACK_MAX_US")
    with Connection(one, "peer").detach_urgent() as urgent:
        for option, usual in zip((45, 46), before, strict=True):
            assert usual is not None
            assert 0 < (timer(urgent, option) or 0) < usual / 5


def timer(sock: socket.socket, option: int) -> int | None:
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, option)
    except OSError:
        return None
