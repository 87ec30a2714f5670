"""Pipes and devices that a result is written to: whoever reads them may be late, slow, or gone."""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import Final

from common import signals

READER_S: Final = 2.0  # that a named pipe's reader may come later than we
_LOOK_S: Final = 0.02


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


def write_stream(fd: int, data: bytes) -> None:
    """All of it, however slow its reader is; a signal ends that. Raises `OSError`."""
    try:
        with signals.raising():
            write_all(fd, data)
    except KeyboardInterrupt:
        raise InterruptedError(errno.EINTR, "cancelled before all of it was read") from None


def write_all(fd: int, data: bytes) -> None:
    """As many writes as it takes. Raises `OSError`."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
