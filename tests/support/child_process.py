"""Running a test's function in a child process, under a time limit."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable


def in_child(function: Callable[[], None], timeout_s: float = 30.0) -> None:
    """Fork (what is compiled stays compiled) and run; an exception there is a failure here."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            function()
            os._exit(0)
        except BaseException:  # noqa: BLE001 (told to the parent)
            os.write(writing, traceback.format_exc().encode()[-60_000:])
        finally:
            os._exit(1)
    os.close(writing)
    deadline = time.monotonic() + timeout_s
    try:
        while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise AssertionError(f"the child hung for {timeout_s:g} s")
            time.sleep(0.005)
        assert ended[1] == 0, os.read(reading, 60_000).decode()
    finally:
        os.close(reading)


def drop_privileges() -> None:
    """Become nobody."""
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
