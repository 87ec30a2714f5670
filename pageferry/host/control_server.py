"""The control socket of a host, the end that answers.

Whoever may connect to it may do with the host's guests as they like. So it is a Unix socket that
only its owner can open, in a folder that only the owner can write to.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from pageferry.common.errors import PageferryError, RemoteProtocolError, UsageError
from pageferry.common.process.aio import Served, closed_is_reset, quit_task
from pageferry.common.process.status import Status
from pageferry.common.process.threads import failure_of
from pageferry.host import messages as m
from pageferry.host.control_client import answers, control_folder, is_ours_alone
from pageferry.host.host import Host
from pageferry.host.moves import GuestMove

REQUEST_S: Final = 10.0  # from a connection to its request
MOST_CLIENTS: Final = 32
_LONGEST_PATH: Final = 107  # of sockaddr_un, without its end


def bind_control(path: Path | None, port: int) -> tuple[socket.socket, Path]:
    """Make a listening socket that only we can open.

    A socket that a killed host has left at this path is removed first.

    Args:
        path: What the user gave; None for the default, whose folder is made.
        port: On which the host listens for guests; names the default.

    Returns:
        The socket, not blocking, and its path.

    Raises:
        UsageError: The path is too long or in use, or its folder is not ours alone.
    """
    if path is None:
        path = control_folder() / f"host-{port}.sock"
        _make_folder(path.parent)
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise UsageError(f"--control {path}: longer than the {_LONGEST_PATH} bytes of a socket's")
    try:
        if stat.S_ISSOCK(path.lstat().st_mode) and not answers(path):
            path.unlink()  # left by a host that was killed
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UsageError(f"--control {path}: {error.strerror}") from None
    sock = socket.socket(socket.AF_UNIX)
    umask = os.umask(0o177)
    try:
        sock.bind(str(path))
        sock.listen(MOST_CLIENTS)
    except OSError as error:
        sock.close()
        raise UsageError(f"--control {path}: {error.strerror}") from None
    finally:
        os.umask(umask)
    sock.setblocking(False)
    return sock, path


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        ours = is_ours_alone(folder)
    except OSError as error:
        raise UsageError(f"no folder {folder} for a control socket: {error.strerror}") from None
    if not ours:
        raise UsageError(f"{folder} is not ours alone to write to: expected --control PATH")


class ControlServer:
    """Carries out commands that come over the control socket, one for each connection.

    Args:
        host: Carries them out, on the running loop.
        say: Takes one line for people.

    Attributes:
        path: The socket's; None while it does not listen.
    """

    def __init__(self, host: Host, say: Callable[[str], None]) -> None:
        self._host = host
        self._say = say
        self._served = Served(self._answer)
        self._server: asyncio.Server | None = None
        self.path: Path | None = None

    async def start(self, sock: socket.socket, path: Path) -> None:
        """Listen for commands.

        Args:
            sock: As `bind_control` made it; closed by `close`.
            path: Its path, which `close` removes.
        """
        self.path = path
        self._server = await asyncio.start_unix_server(
            self._served.take, sock=sock, limit=m.MAX_REQUEST
        )

    async def close(self) -> None:
        """Let those that wait for an answer have it, and end; idempotent."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._served.tasks:
            await asyncio.wait(self._served.tasks, timeout=REQUEST_S)
        await self._served.cancel()
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            self.path = None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reply = await self._reply(reader, writer)
        with contextlib.suppress(OSError), closed_is_reset():
            writer.write(m.encode_line(reply))
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    async def _reply(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> BaseModel:
        try:
            if len(self._served.tasks) > MOST_CLIENTS:
                raise PageferryError(f"this host has {MOST_CLIENTS} commands to carry out already")
            async with asyncio.timeout(REQUEST_S):
                request = await _read(reader)
            return await self._serve(request, reader, writer)
        except TimeoutError:
            return m.RequestFailed(reason=f"no request came within {REQUEST_S:.0f} s", exit_code=1)
        except PageferryError as error:
            return m.RequestFailed(reason=str(error), exit_code=error.exit_code)
        except Exception as error:  # noqa: BLE001 - one command must not end the guests
            failure = failure_of(error)
            self._say(f"a command failed: {failure}")
            return m.RequestFailed(reason=str(failure), exit_code=failure.exit_code)

    async def _serve(
        self, request: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> BaseModel:
        host = self._host
        match request:
            case m.List():
                return host.list()
            case m.Boot():
                return await host.boot(request)
            case m.Digest():
                return await host.digest(request)
            case m.Resume():
                return await host.outgoing.resume(request)
            case m.Shutdown():
                return await host.shutdown(request)
            case m.MoveGuest():
                return await self._move(request, reader, writer)
            case _:
                raise RemoteProtocolError("there is no move here that could be given up")

    async def _move(
        self, request: m.MoveGuest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> BaseModel:
        def show(status: Status) -> None:
            with contextlib.suppress(OSError), closed_is_reset():
                if not writer.is_closing() and writer.transport.get_write_buffer_size() == 0:
                    writer.write(m.encode_line(m.MoveProgress(status=status)))

        move, ended = self._host.outgoing.move(request, show)
        orders = asyncio.create_task(self._take_orders(reader, move))
        try:
            return await asyncio.shield(ended)
        finally:
            await quit_task(orders)

    async def _take_orders(self, reader: asyncio.StreamReader, move: GuestMove) -> None:
        """Cancel a move each time that whoever asked for it says so, and if they go away."""
        with contextlib.suppress(PageferryError, OSError):
            while True:
                if isinstance(await _read(reader), m.CancelMove):
                    self._say(f"guest {move.name}: {move.cancel() or 'cancelling'}")
                else:  # its answer could be taken for the move's
                    self._say(f"guest {move.name}: a request that no move takes is passed over")
        if move.session.can_cancel:
            move.cancel()
            self._say(f"guest {move.name}: cancelling, since who asked for it has gone")


async def _read(reader: asyncio.StreamReader) -> Any:
    try:
        line = await reader.readline()
    except ValueError:
        raise RemoteProtocolError(f"a request of more than {m.MAX_REQUEST:,} bytes") from None
    if not line.endswith(b"\n"):
        raise RemoteProtocolError("the connection ended before a request did")
    return m.decode_line(line, m.REQUESTS)
