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
from pageferry.common.guest_location import When, Who, location_error
from pageferry.common.process.aio import closed_is_reset
from pageferry.common.process.status import Status
from pageferry.host import messages as m


def control_folder() -> Path:
    """Return where control sockets are by default.

    Returns:
        A folder of this user's, which may not exist.

    Raises:
        UsageError: There is no folder for temporary files.
    """
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
    """Return whether nobody else could have put a socket into a folder.

    Args:
        folder: Not followed if it is a link.

    Returns:
        Whether it is a folder of this user's that nobody else can write to.

    Raises:
        OSError: It does not exist, or can't be looked at.
    """
    found = folder.lstat()
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return ours and not found.st_mode & 0o022


def find_controls() -> list[Path]:
    """Find the control sockets of this user's hosts in the default folder.

    Returns:
        Those that somebody listens on, sorted; at least one.

    Raises:
        UsageError: There is none.
    """
    found: list[Path] = []
    with contextlib.suppress(OSError):
        if is_ours_alone(control_folder()):
            sockets = control_folder().glob("host-*.sock")
            found = sorted(each for each in sockets if answers(each))
    if not found:
        raise no_host()
    return found


def find_control(path: Path | None) -> Path:
    """Return the control socket that is meant.

    Args:
        path: What the user gave, which is taken as it is; None for the only host that runs.

    Returns:
        The socket's path.

    Raises:
        UsageError: No host runs, or several do.
    """
    found = [path] if path is not None else find_controls()
    if len(found) == 1:
        return found[0]
    raise UsageError(f"which host? expected --host with {' or '.join(map(str, found))}")


def no_host() -> UsageError:
    """Make the error for when no host runs.

    Returns:
        Says where was looked; to be raised by the caller.
    """
    return UsageError(
        f"no host runs here: expected 'pageferry host' to run, or --host with the path of its"
        f" control socket (looked in {control_folder()})"
    )


def answers(path: Path) -> bool:
    """Return whether somebody listens on a Unix socket.

    Args:
        path: It need not exist.

    Returns:
        False also if this user may not connect.
    """
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(str(path))
        except OSError:
            return False
        return True


class ControlClient:
    """The asking end of a control socket, for one command.

    Args:
        path: The control socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: asyncio.StreamWriter | None = None
        self._given_up = False

    async def ask(self, request: BaseModel, show: Callable[[Status], None] | None = None) -> Any:
        """Send a request and wait for the host's answer.

        Args:
            request: One of `messages.Request`, but no `CancelMove`.
            show: Takes each moment of a move while it lasts; None for nobody.

        Returns:
            The message of `messages.Reply` that answers this request.

        Raises:
            PeerUnreachable: No host listens.
            CancelledByUser: `cancel` was called before the host was asked.
            ConnectionBroken: The host has taken the request and is gone.
            PageferryError: What failed at the host, with its exit code.
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
                raise location_error("cancelled before the host was asked", Who.USER, When.BEFORE)
            with contextlib.suppress(OSError), closed_is_reset():  # reading finds it out
                writer.write(m.encode_line(request))
            while True:
                reply = m.decode_line(await self._line(reader), m.REPLIES)
                if isinstance(reply, m.RequestFailed):
                    failure = PageferryError(reply.reason)
                    failure.exit_code = reply.exit_code
                    raise failure
                if not isinstance(reply, m.MoveProgress):
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
        """Ask to give up the move that is being waited for; its answer still comes.

        A move that the host has not been asked for yet is never asked for.
        """
        self._given_up = True
        if self._writer is not None:
            with contextlib.suppress(OSError), closed_is_reset():  # whoever waits hears of it
                self._writer.write(m.encode_line(m.CancelMove()))
