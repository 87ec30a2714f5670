"""Pipes and devices that a result is written to: whoever reads them may be late, slow, or gone."""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from typing import Final

from pageferry.common.process import signals

READER_S: Final = 2.0  # that a named pipe's reader may come later than we
_LOOK_S: Final = 0.02
_PATIENCE_S: Final = 0.5  # with a reader who stands still, between two looks for a signal


def open_stream(name: str) -> int:
    """A descriptor of what is no regular file, to write to. Raises `OSError`.

    A pipe without a reader can't be open: one is waited for, `READER_S` and no longer.
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
    """How many bytes it took without making us wait: 0 where it takes none for so long.

    A pipe that is writable takes up to `PIPE_BUF` bytes without waiting. Raises `OSError`.
    """
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return os.write(fd, data[: select.PIPE_BUF]) if poll.poll(wait_s * 1e3) else 0


def write_stream(fd: int, data: bytes) -> None:
    """All of it, however slow its reader is; once a signal has come, only while he reads on.

    Raises `OSError`.
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
    """As many writes as it takes. Raises `OSError`."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
