"""What a call must not leave of this process: children, networks, threads, handlers of signals."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Final

import pytest

from tests.support.harness import children_of, heard
from tests.support.network_needs import networks_of

_PATIENCE_S: Final = 5.0  # until the kernel has taken what has ended out of /proc


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """Inside, something is run, and whatever becomes of it, nothing of it is left afterwards."""
    before, handler = set(children_of(os.getpid())), signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        deadline = time.monotonic() + _PATIENCE_S
        while (left := {*children_of(os.getpid())} - before) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not left
        assert networks_of(os.getpid()) == []
        assert [each.name for each in threading.enumerate() if each.name == "pageferry"] == []
        assert signal.getsignal(signal.SIGINT) is handler


@contextlib.contextmanager
def nothing_left_or_printed(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Nothing stays behind, and nothing is said but what asyncio's debug mode has to."""
    with nothing_left():
        yield
    said = capfd.readouterr()
    assert (said.out, heard(said.err)) == ("", "")
