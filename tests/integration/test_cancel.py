"""Ctrl-C at any moment before the hand-over: nothing is left, and the guest goes on."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from typing import Any

import pytest

from tests.support.harness import (
    agent,
    children_of,
    command,
    destination,
    listening_ports,
    wait_gone,
)
from tests.support.tiers import some

# Slow enough that no phase is over before the signal has come.
# A hundred rounds that never fit: none is the last one before the signal has come.
SLOW = (
    *("--max-bandwidth", "20MB/s", "--warmup", "500ms", "--strategy", "pre-copy"),
    *("--max-rounds", "100", "--downtime-limit", "1us"),
    *("--workload", "uniform:working-set=2MiB,rate=10MB/s,scatter=true", "--granularity", "page"),
)


def moments(*phases: str) -> list[tuple[str, signal.Signals]]:
    """Ctrl-C in every phase, SIGTERM in one."""
    return [(phase, signal.SIGINT) for phase in phases] + [("round 1", signal.SIGTERM)]


def in_phase(phase: str) -> Any:
    return lambda key, value: key == "status" and phase in value["phase"]


@pytest.mark.parametrize(
    ("phase", "number"), some(moments("booting", "warming", "round 1", "round 2", "round 5"), 2)
)
def test_the_source_is_interrupted(phase: str, number: int) -> None:
    with destination() as (dest, port):
        memory = "512MiB" if phase == "booting" else "16MiB"
        with agent("source", "--to", f"127.0.0.1:{port}", "--memory", memory, *SLOW) as source:
            source.wait_status(in_phase(phase))
            source.process.send_signal(number)
            report = source.wait_status(lambda key, _value: key == "report")
            run = source.end()
        assert run.exit_code == 130, run.stderr
        assert "cancelled" in run.stderr
        assert "Traceback" not in run.stderr
        assert report["outcome"] == "cancelled"
        assert report["guest"]["runs_at"] == ("nowhere" if phase == "booting" else "source")
        # The destination has let go of it, and takes the next one.
        with agent("source", "--to", f"127.0.0.1:{port}", "--memory", "16MiB") as again:
            assert again.wait_status(lambda key, _value: key == "report")["verified"] is True
        dest.process.terminate()
        assert "cancelled" in dest.end().stderr


@pytest.mark.parametrize(
    ("phase", "number"), some(moments("round 1", "starting", "booting", "warming", "round 5"), 2)
)
def test_migrate_is_interrupted(phase: str, number: int) -> None:
    with agent("migrate", "--json", "-", "--memory", "16MiB", *SLOW) as running:
        running.wait_status(in_phase(phase))
        agents = children_of(running.process.pid)
        ports = [port for pid in agents for port in listening_ports(pid)]
        running.process.send_signal(number)
        run = running.end()
    assert run.exit_code == 130, run.stderr
    assert "cancelled" in run.complaint
    assert wait_gone(agents) == []
    for port in ports:
        with socket.create_server(("127.0.0.1", port)):
            pass  # it can be had again
    if phase != "starting":
        assert len(agents) == 2
        assert ports
        assert run.report.outcome == "cancelled"


def test_agents_end_with_a_supervisor_that_is_killed() -> None:
    with agent("migrate", "--memory", "32MiB", *SLOW) as running:
        running.wait_status(in_phase("round 1"))
        agents = children_of(running.process.pid)
        assert len(agents) == 2
        running.process.kill()
        assert wait_gone(agents) == []


@pytest.mark.parametrize("seconds", [0.3, 0.45, 0.6, 0.8])
def test_agents_end_with_a_supervisor_that_is_killed_while_they_start(seconds: float) -> None:
    running = subprocess.Popen(
        command("migrate", "--memory", "32MiB", *SLOW),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    agents: list[int] = []
    try:
        time.sleep(seconds)
        deadline = time.monotonic() + 20
        while not agents and time.monotonic() < deadline:
            agents = children_of(running.pid)
    finally:
        running.kill()
        running.wait()
    assert agents
    assert wait_gone(agents) == []
