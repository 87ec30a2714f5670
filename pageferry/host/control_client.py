"""The control socket of a host: where it is, and the end that asks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pageferry.common.errors import ConnectionBroken, PageferryError, PeerUnreachable, UsageError
from pageferry.common.guest_location import When, Who, told
from pageferry.common.process.aio import closed_is_reset
from pageferry.common.process.status import Status
from pageferry.host import messages as m


def control_folder() -> Path:
    """Where control sockets are by default. Raises `UsageError`."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return Path(runtime) / "pageferry"
    try:
        return Path(tempfile.gettempdir()) / f"pageferry-{os.getuid()}"
    except FileNotFoundError:
        raise UsageError(
            "no folder for temporary files can be written to: expected XDG_RUNTIME_DIR or TMPDIR to"
            " name one"
        ) from None


def is_ours_alone(folder: Path) -> bool:
    """Whether nobody else could have put a socket there. Raises `OSError`."""
    found = folder.lstat()
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return ours and not found.st_mode & 0o022


def find_controls() -> list[Path]:
    """The control sockets of this user's hosts, at least one. Raises `UsageError`."""
    found: list[Path] = []
    with contextlib.suppress(OSError):
        if is_ours_alone(control_folder()):
            sockets = control_folder().glob("host-*.sock")
            found = sorted(each for each in sockets if answers(each))
    if not found:
        raise no_host()
    return found


def find_control(path: Path | None) -> Path:
    """Where the host is: as given, or the only one there is. Raises `UsageError`."""
    found = [path] if path is not None else find_controls()
    if len(found) == 1:
        return found[0]
    raise UsageError(f"which host? expected --host with {' or '.join(map(str, found))}")


def no_host() -> UsageError:
    """What is said where none runs."""
    return UsageError(
        f"no host runs here: expected 'pageferry host' to run, or --host with the path of its"
        f" control socket (looked in {control_folder()})"
    )


def answers(path: Path) -> bool:
    """Whether somebody listens there."""
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(str(path))
        except OSError:
            return False
        return True


class ControlClient:
    """The other end, for one command. Raises `PeerUnreachable` where no host listens."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: asyncio.StreamWriter | None = None
        self._given_up = False

    async def ask(self, request: BaseModel, show: Callable[[Status], None] | None = None) -> Any:
        """The host's answer. Raises a `PageferryError` with the exit code of what failed.

        `ConnectionBroken`: the host has taken the request, and is gone.
        """
        try:
            reader, writer = await asyncio.open_unix_connection(str(self._path), limit=m.MAX_REPLY)
        except OSError as error:
            raise PeerUnreachable(
                f"no host listens at {self._path}: {error.strerror or error} (is 'pageferry host'"
                " running?)"
            ) from None
        self._writer = writer
        try:
            if self._given_up:
                raise told("cancelled before the host was asked", Who.USER, When.BEFORE)
            with contextlib.suppress(OSError), closed_is_reset():  # reading says it
                writer.write(m.encode(request))
            while True:
                reply = m.decode(await self._line(reader), m.REPLIES)
                if isinstance(reply, m.Failed):
                    failure = PageferryError(reply.reason)
                    failure.exit_code = reply.exit_code
                    raise failure
                if not isinstance(reply, m.Progress):
                    return reply
                if show is not None:
                    show(reply.status)
        finally:
            self._writer = None
            writer.close()

    async def _line(self, reader: asyncio.StreamReader) -> bytes:
        try:
            line = await reader.readline()
        except (OSError, ValueError) as error:
            raise ConnectionBroken(f"the host at {self._path} broke off: {error}") from None
        if not line:
            raise ConnectionBroken(f"the host at {self._path} ended before it had answered")
        return line

    def cancel(self) -> None:
        """Have the move given up that is being waited for; its answer still comes.

        One that has not been asked for yet never is.
        """
        self._given_up = True
        if self._writer is not None:
            with contextlib.suppress(OSError), closed_is_reset():  # who waits hears of it
                self._writer.write(m.encode(m.Cancel()))
