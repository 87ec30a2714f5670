"""`pageferry net`: networks that are left up, used, and taken down."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Iterator

import pytest

from pageferry.net.link import end_keeper
from pageferry.net.namespaces import found, remove
from pageferry.net.spec import forget, load_state, remembered
from tests.support.harness import Run, pageferry, wait_gone
from tests.support.network_needs import why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")


@pytest.fixture
def name() -> Iterator[str]:
    """Of a network of this test's own, which is gone afterwards."""
    made = f"test-{os.getpid()}-{secrets.token_hex(3)}"
    yield made
    end_keeper(made)
    remove(made)
    forget(made)
    assert made not in {*found(), *remembered()}


def net(*arguments: str) -> Run:
    run = pageferry("net", *arguments)
    assert run.exit_code == 0, run.stderr
    return run


def test_up_exec_and_down(name: str) -> None:
    up = net("up", "--name", name, "--rate", "800mbit", "--rate-back", "80mbit")
    assert f"{name}: src 10.77.0.1, dst 10.77.0.2, shaped by tc" in up.stdout
    assert "asked:    rate 100MB/s there; rate 10MB/s back" in up.stdout
    assert "measured: round trip" in up.stdout
    state = load_state(name)
    assert state is not None
    assert state.measured is not None
    assert state.measured.throughput_back_Bps < 1.1e7
    ran = pageferry("net", "exec", "src", "--name", name, "--", "sh", "-c", "echo $0 here; exit 7")
    assert (ran.exit_code, ran.stdout) == (7, "sh here\n")
    again = pageferry("net", "up", "--name", name)
    assert again.exit_code == 2
    assert again.complaint.endswith(f"is there already: pageferry net down --name {name}")
    assert net("down", "--name", name).stdout == f"removed: {name}\n"
    assert wait_gone([state.pid]) == []


def test_down_clears_up_behind_a_killed_keeper(name: str) -> None:
    up = net("up", "--name", name, "--delay", "2ms", "--shaper", "tun")
    assert "shaped by tun" in up.stdout
    state = load_state(name)
    assert state is not None
    assert state.measured is not None
    assert state.measured.rtt_ms >= 4
    os.kill(state.pid, signal.SIGKILL)
    assert wait_gone([state.pid]) == []
    assert name in found()
    assert f"{name}: left over" in net("show").stdout
    assert net("down", "--name", name).stdout == f"removed: {name}\n"
    assert name not in found()
