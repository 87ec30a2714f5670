"""Pipes and devices that a result is written to: their reader may be late, slow, or gone."""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from typing import Final

from pageferry.common.process import signals

READER_S: Final = 2.0  # how much later than we a named pipe's reader may come
_LOOK_S: Final = 0.02
_PATIENCE_S: Final = 0.5  # with a reader that stands still, between two checks for a signal


def open_stream(name: str) -> int:
    """Open a file that is not regular, to write to.

    A pipe without a reader can't be opened: a reader is waited for, for `READER_S` and no longer.

    Args:
        name: Its path.

    Returns:
        A blocking descriptor, for the caller to close.

    Raises:
        OSError: It can't be opened, or nobody reads it.
    """
    until = time.monotonic() + READER_S
    while True:
        try:
            fd = os.open(name, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
            break
        except OSError as error:
            if error.errno != errno.ENXIO or not stat.S_ISFIFO(os.stat(name).st_mode):
                raise
            if time.monotonic() > until:
                what = f"a pipe that nobody has begun to read within {READER_S:.0f} s"
                raise OSError(errno.ENXIO, what) from None
        time.sleep(_LOOK_S)
    os.set_blocking(fd, True)
    return fd


def write_some(fd: int, data: memoryview, wait_s: float) -> int:
    """Write what a pipe takes without making us wait.

    A pipe that is writable takes up to `PIPE_BUF` bytes without waiting.

    Args:
        fd: The descriptor, blocking or not.
        data: Bytes to write; at most `PIPE_BUF` of them are.
        wait_s: How long to wait for it to become writable.

    Returns:
        How many bytes it took; 0 where it took none in that time.

    Raises:
        OSError: It can't be written to, as when its reader is gone.
    """
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return os.write(fd, data[: select.PIPE_BUF]) if poll.poll(wait_s * 1e3) else 0


def write_stream(fd: int, data: bytes) -> None:
    """Write everything, however slow the reader is; once a signal has come, only while it reads on.

    Args:
        fd: A descriptor of `open_stream`, or standard output.
        data: All of it.

    Raises:
        OSError: It can't be written to. `InterruptedError`: a signal came and the reader stood
            still.
    """
    asked: list[int] = []
    left = memoryview(data)
    with signals.received(asked.append):
        while left:
            n = write_some(fd, left, _PATIENCE_S)
            left = left[n:]
            if not n and asked:
                raise InterruptedError(errno.EINTR, "cancelled before all of it was read")


def write_all(fd: int, data: bytes) -> None:
    """Write everything, in as many writes as it takes.

    Args:
        fd: A blocking descriptor.
        data: All of it.

    Raises:
        OSError: It can't be written.
    """
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
