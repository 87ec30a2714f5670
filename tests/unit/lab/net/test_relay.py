"""The relay, where the kernel says other things of a connection than that it was reset."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket

import pytest

from lab.net.relay import RelayLink
from lab.net.shape import Shape


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
