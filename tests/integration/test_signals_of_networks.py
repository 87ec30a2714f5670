"""A session that is dropped while a network is made: one line, and nothing is left of it."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_line import pageferry
from tests.support.harness import children_of
from tests.support.running import running

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/dev/net/tun"),
    reason="needs root and /dev/net/tun, for network namespaces",
)


@pytest.fixture
def name() -> Iterator[str]:
    """Of a network of this test's own, which is gone afterwards."""
    made = f"test-{os.getpid()}-{secrets.token_hex(3)}"
    yield made
    pageferry("net", "down", "--name", made)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_while_it_is_measured(name: str, number: signal.Signals) -> None:
    there = Path(f"/run/netns/pageferry-{name}-dst")
    with running("net", "up", "--name", name, "--delay", "1ms", status=False) as up:
        deadline = time.monotonic() + 30
        while not there.exists():
            assert up.process.poll() is None, up.end()
            assert time.monotonic() < deadline
        keepers = children_of(up.process.pid)
        up.tell(number)
        ended = up.end()
    assert ended.exit_code == 130, ended
    assert ended.lines == [ended.complaint]
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in keepers) or there.exists():
        assert time.monotonic() < deadline, keepers
