"""What a bulk sender puts on the wire, of which the pacer has the last word."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import pytest

from pageferry.common.errors import ConnectionBroken
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire.bulk_sender import BulkSender
from pageferry.common.wire.link_policy import LinkPolicy
from pageferry.common.wire.pacing import KERNEL_PEAK, Pacer
from pageferry.common.wire.spans import IOV_MAX

UNLIMITED = float("inf")


class Ledger(Pacer):
    """A pacer that writes down what it was asked, and answers as it is told."""

    def __init__(
        self, slice_bytes: int = 2**20, answer: Callable[[int], float] = lambda _: 0.0
    ) -> None:
        super().__init__(UNLIMITED)
        self._slice = slice_bytes
        self._answer = answer
        self.booked: list[int] = []

    @property
    def slice_bytes(self) -> int:
        return self._slice

    def reserve(self, n: int, now: float) -> float:
        assert now > 0
        self.booked.append(n)
        return self._answer(n)


class Stingy:
    """A socket that takes a part of what it is given, of many sizes up to `most`.

    A blocking socket does so only where a signal or a time limit cuts a call short.
    """

    def __init__(self, sock: socket.socket, most: int) -> None:
        self._sock = sock
        self._parts = itertools.cycle([*range(1, 4), 15, 16, 17, 40, most // 2, most])

    def sendmsg(self, buffers: list[bytes | memoryview]) -> int:
        assert len(buffers) <= IOV_MAX
        data = b"".join(buffers)
        assert data
        part = data[: next(self._parts)]
        self._sock.sendall(part)
        return len(part)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class Wire:
    """A socket pair, and a thread that reads all that comes out of it."""

    def __init__(self, small: bool = False) -> None:
        self.here, self.there = socket.socketpair()
        if small:
            shrink(self.here)
        self.data = bytearray()
        self._reader = threading.Thread(target=self._read)

    def _read(self) -> None:
        while part := self.there.recv(1 << 16):
            self.data += part

    def __enter__(self) -> Wire:
        self._reader.start()
        return self

    def all_of_it(self) -> bytes:
        self.here.shutdown(socket.SHUT_WR)
        self._reader.join()
        return bytes(self.data)

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.here.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self.here.close()
        self.there.close()


def shrink(sock: socket.socket) -> None:
    """The kernel's least: what is sent fills it many times over."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)


def noise(n: int) -> memoryview:
    return memoryview(np.random.default_rng(n).integers(0, 256, n, np.uint8).tobytes())


def cut(data: memoryview, size: int) -> list[bytes | memoryview]:
    return [data[at : at + size] for at in range(0, len(data), size)]


BUFFERS: dict[str, list[bytes | memoryview]] = {
    "one": [noise(300_000)],
    "one byte": [b"x"],
    "head and pages": [b"head" * 6, *cut(noise(40 * PAGE_SIZE), PAGE_SIZE)],
    "scattered": [noise(70_000)[at : at + at // 7 + 1] for at in range(0, 60_000, 991)],
    "as many as fit": cut(noise(IOV_MAX * 16), 16),
    "one more than fit": cut(noise(IOV_MAX * 16 + 1), 16),
    "thousands": cut(noise(3000 * 40), 40),
    "some empty": [b"", b"abc", b"", memoryview(b""), b"de", b""],
    "large ones": [noise(1_500_000), b"between", noise(1_200_001)],
}


class TestSender:
    @pytest.mark.parametrize("small", [False, True], ids=["", "in parts"])
    @pytest.mark.parametrize("slice_bytes", [16 * 1024, 2**20])
    @pytest.mark.parametrize("name", BUFFERS)
    def test_all_arrives_in_order_and_is_booked(
        self, name: str, slice_bytes: int, small: bool
    ) -> None:
        buffers = BUFFERS[name]
        expected = b"".join(buffers)
        pacer = Ledger(slice_bytes)
        with Wire(small) as wire:
            sender = BulkSender(wire.here, pacer)
            assert sender.send(buffers) == len(expected)
            assert sender.sent_bytes == len(expected)
            assert wire.all_of_it() == expected
        assert sum(pacer.booked) == len(expected)
        assert all(0 < n <= slice_bytes for n in pacer.booked)

    @pytest.mark.parametrize("most", [64, 30_000])
    @pytest.mark.parametrize("name", BUFFERS)
    def test_a_socket_that_takes_a_part(self, name: str, most: int) -> None:
        buffers = [buffer[:2_000] for buffer in BUFFERS[name]]
        expected = b"".join(buffers)
        pacer = Ledger(16 * 1024)
        with Wire() as wire:
            sender = BulkSender(cast(socket.socket, Stingy(wire.here, most)), pacer)
            assert sender.send(buffers) == len(expected)
            assert wire.all_of_it() == expected
        assert sender.sent_bytes == sum(pacer.booked) == len(expected)

    def test_slices_are_filled(self) -> None:
        pacer = Ledger(1000)
        with Wire() as wire:
            BulkSender(wire.here, pacer).send([noise(700), noise(700), noise(1100)])
        assert pacer.booked == [1000, 1000, 500]

    def test_the_count_goes_on(self) -> None:
        pacer = Ledger()
        with Wire() as wire:
            sender = BulkSender(wire.here, pacer)
            assert [sender.send([bytes(n)]) for n in (10, 200, 3000)] == [10, 200, 3000]
            assert sender.sent_bytes == 3210
            assert sender.send([]) == 0
            assert len(wire.all_of_it()) == sender.sent_bytes == sum(pacer.booked)

    def test_nothing_has_gone_while_it_waits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each slice is booked, waited for as the pacer says, and only then sent."""
        pacer = Ledger(1000, answer=lambda n: n / 500)
        said: list[tuple[float, int, int]] = []
        with Wire() as wire:
            sender = BulkSender(wire.here, pacer)

            def waits(seconds: float) -> bool:
                said.append((seconds, sender.sent_bytes, sum(pacer.booked)))
                return False

            catch_waits(monkeypatch, sender, waits)
            sender.send([noise(2500)])
            assert len(wire.all_of_it()) == 2500
        assert sum(seconds for seconds, _, _ in said) == pytest.approx(5.0)
        steps: dict[int, float] = {}
        for seconds, sent, booked in said:
            assert booked == min(sent + 1000, 2500)
            steps[sent] = steps.get(sent, 0.0) + seconds
        assert steps == {0: pytest.approx(2.0), 1000: pytest.approx(2.0), 2000: pytest.approx(1.0)}

    def test_no_wait_where_none_is_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        said: list[float] = []
        with Wire() as wire:
            sender = BulkSender(wire.here, Ledger(1000))

            def waits(seconds: float) -> bool:
                said.append(seconds)
                return False

            catch_waits(monkeypatch, sender, waits)
            sender.send([noise(5000)])
        assert sum(said) == 0

    def test_giving_up_ends_a_wait(self) -> None:
        asked = threading.Event()

        def for_ever(_n: int) -> float:
            asked.set()
            return 1e9

        failures: list[Exception] = []
        with Wire() as wire:
            sender = BulkSender(wire.here, Ledger(answer=for_ever))

            def send() -> None:
                try:
                    sender.send([noise(5000)])
                except ConnectionBroken as error:
                    failures.append(error)

            thread = threading.Thread(target=send)
            thread.start()
            asked.wait()
            sender.abort()
            thread.join()
            assert (len(failures), sender.sent_bytes) == (1, 0)
            assert wire.all_of_it() == b""

    def test_a_peer_that_is_gone(self) -> None:
        here, there = socket.socketpair()
        with here:
            there.close()
            with pytest.raises(ConnectionBroken):
                BulkSender(here, Ledger()).send([noise(10)])


class _Waiter:
    """An event that nobody sets; `wait` says how long it was meant to be."""

    def __init__(self, waits: Callable[[float], bool]) -> None:
        self._waits = waits

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        return self._waits(timeout)

    def is_set(self) -> bool:
        return False


def catch_waits(
    monkeypatch: pytest.MonkeyPatch, sender: BulkSender, waits: Callable[[float], bool]
) -> None:
    """Whatever `sender` waits with calls `waits` instead, and no time goes by."""
    for name, value in vars(sender).items():
        if isinstance(value, threading.Event):
            monkeypatch.setattr(sender, name, _Waiter(waits))
    monkeypatch.setattr("pageferry.common.wire.bulk_sender.time.sleep", waits)


class TestKernelPacing:
    def test_the_socket_follows_the_rate(self) -> None:
        pacer = Pacer(1e9, kernel_channels=2)
        with Wire() as wire, pacer.sending(), pacer.sending():
            sender = BulkSender(wire.here, pacer)
            sender.send([noise(1000)])
            assert paced(wire.here) == pacer.socket_rate
            pacer.rate = 5e8
            sender.send([noise(1000)])
            assert paced(wire.here) == pacer.socket_rate == round(5e8 * KERNEL_PEAK / 2)
            pacer.rate = UNLIMITED
            sender.send([noise(1000)])
            assert paced(wire.here) == 2**64 - 1
            assert wire.all_of_it() == bytes(noise(1000)) * 3

    def test_without_it_the_socket_is_left_alone(self) -> None:
        with Wire() as wire:
            BulkSender(wire.here, Pacer(1e9)).send([noise(1000)])
            assert paced(wire.here) == 2**64 - 1

    def test_what_is_given_up_does_not_hold_up_the_end(self) -> None:
        with Wire() as wire:
            sender = BulkSender(wire.here, Pacer(1e9, kernel_channels=1))
            sender.send([noise(1000)])
            sender.abort()
            assert paced(wire.here) == 2**64 - 1


def paced(sock: socket.socket) -> int:
    """Bytes a second."""
    return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, 47, 8), "little")


class TestParts:
    def test_each_is_sent_before_the_next_is_made(self) -> None:
        buffer = bytearray(5000)

        def parts() -> Iterator[list[bytes | memoryview]]:
            yield [b"head", memoryview(buffer)]
            buffer[:] = bytes(noise(5000))
            yield [memoryview(buffer), b"end"]

        with Wire() as wire:
            assert BulkSender(wire.here, Pacer(UNLIMITED)).send_parts(parts()) == 10_007
            assert wire.all_of_it() == b"head" + bytes(5000) + bytes(noise(5000)) + b"end"

    def test_who_taps_sees_whole_frames(self) -> None:
        seen: list[bytes] = []

        class Ears:
            def opened(self, sock: socket.socket) -> None:
                del sock

            def outgoing(
                self, sock: socket.socket, frame: Sequence[bytes | memoryview]
            ) -> Sequence[bytes | memoryview]:
                del sock
                seen.append(b"".join(frame))
                return frame

            def incoming(self, n: int) -> None:
                del n

        buffer = bytearray(b"aaaa")

        def parts() -> Iterator[list[bytes | memoryview]]:
            yield [memoryview(buffer)]
            buffer[:] = b"bbbb"
            yield [memoryview(buffer)]

        with Wire() as wire:
            BulkSender(wire.here, Pacer(UNLIMITED), link=LinkPolicy(tap=Ears())).send_parts(parts())
            assert wire.all_of_it() == b"aaaabbbb"
        assert seen == [b"aaaabbbb"]
