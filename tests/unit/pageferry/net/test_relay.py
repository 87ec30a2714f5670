"""The relay, where connections end in all the ways that the kernel knows."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import random
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from pageferry.net.relay import RelayLink
from pageferry.net.shape import Direction, Shape

CONNECTIONS = 300
RESET = struct.pack("ii", 1, 0)  # linger on, for no time


@pytest.mark.parametrize("number", [errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTUNREACH])
def test_a_connection_that_fails_ends_without_a_word(
    number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_reader: asyncio.StreamReader, _count: int = -1) -> bytes:
        raise OSError(number, "as the kernel has it")

    monkeypatch.setattr(asyncio.StreamReader, "read", fail)
    link = RelayLink(Shape())
    try:
        with socket.create_server(("127.0.0.1", 0)) as target:
            link.point_at(target.getsockname()[1])
            near = socket.create_connection(("127.0.0.1", link.port), timeout=10)
            with near, contextlib.suppress(ConnectionResetError):
                assert near.recv(1) == b""
    finally:
        link.close()
    assert caplog.records == []


@contextlib.contextmanager
def target(seed: int) -> Iterator[int]:
    """Somebody who takes connections and drops each in one of three ways; yields the port."""
    rng = random.Random(seed)  # noqa: S311
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:

        def serve() -> None:
            while True:
                try:
                    taken, _ = listener.accept()
                except OSError:
                    return  # shut down
                with taken:
                    manner = rng.randrange(3)
                    if manner == 0:
                        taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    elif manner == 1:
                        taken.sendall(b"answer" * 100)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize("delay", [0.0, 0.001])
def test_a_connection_that_closes_under_way_is_no_failure_of_ours(
    delay: float, caplog: pytest.LogCaptureFixture
) -> None:
    rng = random.Random(7)  # noqa: S311
    with target(seed=8) as port, caplog.at_level(logging.ERROR, logger="asyncio"):
        shape = Shape(forward=Direction(delay=delay), back=Direction(delay=delay))
        link = RelayLink(shape)
        link.point_at(port)
        try:
            for _ in range(CONNECTIONS):
                ours = socket.create_connection(("127.0.0.1", link.port))
                with ours, contextlib.suppress(OSError):  # the other end may have gone by then
                    ours.sendall(b"q" * rng.choice([100, 100_000]))
                    if rng.random() < 0.5:
                        ours.shutdown(socket.SHUT_WR)
                    if rng.random() < 0.5:
                        ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        finally:
            link.close()
    assert not caplog.messages, caplog.messages[0]
