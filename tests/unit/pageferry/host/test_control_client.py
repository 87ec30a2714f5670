"""Where control sockets are, and whose."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from pageferry.common.errors import ConnectionBroken, UsageError
from pageferry.common.process.aio import Served
from pageferry.host import messages as m
from pageferry.host.control_client import ControlClient, control_folder, find_control
from pageferry.host.control_server import bind_control


@pytest.fixture(autouse=True)
def _runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@contextlib.contextmanager
def bound(path: Path | None, port: int = 1) -> Iterator[Path]:
    sock, where = bind_control(path, port)
    with sock:
        yield where


def test_only_its_owner_may_open_it(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        with bound(None, 4444) as path:
            assert path == tmp_path / "pageferry" / "host-4444.sock"
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            assert os.umask(0) == 0  # it is as it was
    finally:
        os.umask(umask)


def test_the_only_one_is_found() -> None:
    with pytest.raises(UsageError, match="no host runs here"):
        find_control(None)
    with bound(None, 1) as first:
        assert find_control(None) == first
        with bound(None, 2) as second:
            with pytest.raises(UsageError, match=f"which host.*{first} or {second}"):
                find_control(None)
            assert find_control(second) == second
        assert second.exists()  # nobody listens there any more
        assert find_control(None) == first


def test_a_folder_that_others_can_write_to_is_trusted_by_neither_end() -> None:
    with bound(None):
        control_folder().chmod(0o777)
        with pytest.raises(UsageError, match="no host runs here"):
            find_control(None)
        with pytest.raises(UsageError, match="not ours alone"):
            bind_control(None, 2)


def test_a_folder_that_is_a_link_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    control_folder().symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="not ours alone"):
        bind_control(None, 1)


def test_the_socket_of_a_host_that_was_killed_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with bound(path), pytest.raises(UsageError, match=f"--control {path}: Address already in use"):
        bind_control(path, 1)
    assert path.exists()
    with bound(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_file_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "letter"
    path.write_text("dear host")
    with pytest.raises(UsageError, match="letter: Address already in use"):
        bind_control(path, 1)
    assert path.read_text() == "dear host"


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="107 bytes"):
        bind_control(tmp_path / ("x" * 120), 1)


def test_a_move_is_given_up_while_its_host_breaks_off(tmp_path: Path) -> None:
    """Between the end of the connection and the moment that who waits hears of it."""

    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async def main() -> None:
        path, served = tmp_path / "x.sock", Served(serve)
        server = await asyncio.start_unix_server(served.take, str(path))
        client = ControlClient(path)
        asking = asyncio.create_task(client.ask(m.List()))

        def cancelled() -> bool:
            client.cancel()
            return asking.done()

        try:
            await turns(lambda: client._writer is not None)
            assert client._writer is not None
            client._writer.transport.abort()
            await turns(cancelled)
            with pytest.raises(ConnectionBroken, match="ended before it had answered"):
                asking.result()
        finally:
            asking.cancel()
            server.close()
            await served.cancel()
            await turns(lambda: False)

    async def turns(over: Callable[[], bool]) -> None:
        for _ in range(1000):
            if over():
                return
            await asyncio.sleep(0)

    uvloop.run(main())
