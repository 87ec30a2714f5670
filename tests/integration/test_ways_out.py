"""No process of ours is one that only SIGKILL can end: two signals do, at every step there is."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pageferry.common.inject import POINTS
from pageferry.common.termination import SILENT_S
from tests.support.command_line import command, environment
from tests.support.running import (
    END_S,
    SOON_S,
    Running,
    destination,
    running,
    standing_still,
    state_of,
)
from tests.support.tiers import FULL, some

AGAIN = "one more signal ends it"
OPTIONS = (
    *("--memory", "16MiB", "--warmup", "50ms", "--run-after", "300ms", "--cache", "0"),
    *("--workload", "uniform:working-set=100%,rate=1MB/s", "--max-bandwidth", "10MB/s"),
    *("--stall-timeout", "300s", "--recover-timeout", "300s"),
)
# What comes to a step: which strategy, and what has to go wrong before.
LEADING = {"asked": "source/commit-sent:cut", "recovering": "source/postcopy-20%:cut"}
SAMPLE = [
    *("source/paused", "source/postcopy-20%", "source/recovering", "source/before-bye"),
    *("dest/ready", "dest/commit-received", "dest/postcopy-20%", "dest/recovering"),
    *("dest/finished", "dest/asked"),
]


def steps() -> list[str]:
    named = [f"{p.agent}/{p.pattern.replace('N%', '20%').replace('N', '1')}" for p in POINTS]
    return named if FULL else SAMPLE


def strategy_at(step: str) -> str:
    rounds = ("after-round-1", "round-1-received")
    return "pre-copy" if step.endswith(rounds) else "post-copy"


def wait_stopped(pid: int, limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while state_of(pid) != "T":
        assert time.monotonic() < deadline, "it did not come to that step"
        time.sleep(0.02)


@contextlib.contextmanager
def stuck(step: str, stall: str = "30s") -> Iterator[tuple[Running, Running, Running]]:
    """The destination, the source, and that one of them which stands still at this step."""
    agent, _, point = step.partition("/")
    faults = [f"{step}:stall:{stall}", *([LEADING[point]] if point in LEADING else [])]
    of = {who: [f for f in faults if f.startswith(f"{who}/")] for who in ("source", "dest")}
    words = {who: [w for fault in of[who] for w in ("--inject", fault)] for who in of}
    patient = ("--stall-timeout", "300s")
    options = (*OPTIONS, "--strategy", strategy_at(step))
    with (
        destination("--once", *patient, *words["dest"]) as (dest, where),
        running(
            *("source", "--to", where, "--progress", "none", *options, *words["source"]),
            status=False,  # nobody would read it
        ) as source,
    ):
        still = source if agent == "source" else dest
        wait_stopped(still.process.pid)
        try:
            yield dest, source, still
        finally:
            still.tell(signal.SIGCONT)


@pytest.mark.parametrize("step", steps())
def test_two_signals_end_an_agent_whose_peer_stands_still(step: str) -> None:
    with stuck(step) as (dest, source, still):
        other = dest if still is source else source
        other.tell(signal.SIGTERM)
        first = time.monotonic()
        said = other.says(AGAIN) if other.process.poll() is None else False
        second = time.monotonic() if said else first
        if said:
            other.tell(signal.SIGTERM)
        ended = other.end(SOON_S + 55)
        assert time.monotonic() - second < SOON_S, ended.stderr
    assert "Traceback" not in ended.stderr
    codes = {0, 1, 3, 4, 130}
    if said:  # its guest is not lost by that where only the result is waited with
        codes = {0} if "had its run" in ended.stderr else {4}
    assert ended.exit_code in codes, ended.stderr


@pytest.mark.parametrize("step", some(steps(), 2))
def test_one_that_stands_still_itself_ends_once_it_goes_on(step: str) -> None:
    with stuck(step, "2s") as (_dest, _source, still):
        still.tell(signal.SIGTERM)
        still.tell(signal.SIGINT)
        ended = still.end(30.0)
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("which", ["source", "dest"])
def test_who_stood_still_itself_does_not_take_its_peer_for_silent(which: str) -> None:
    """Both signals come while it is stopped, for longer than a silence that is trouble."""
    with stuck(f"{which}/postcopy-20%", "4s") as (dest, source, still):
        still.tell(signal.SIGINT)
        still.tell(signal.SIGTERM)
        ended = {"source": source.end(), "dest": dest.end()}
    for run in ended.values():
        assert "does not answer" not in run.stderr
        assert run.exit_code == 0, run.stderr


SUPERVISOR = """
import subprocess, sys
agent = subprocess.Popen(sys.argv[2:], pass_fds=[int(sys.argv[1])])
print(agent.pid, flush=True)
agent.wait()
"""


@contextlib.contextmanager
def supervised_destination() -> Iterator[tuple[subprocess.Popen[str], int, str]]:
    """The supervisor's process, the destination's process id, and its HOST:PORT."""
    read_fd, write_fd = os.pipe()
    patient = ("--stall-timeout", "300s", "--status-fd", str(write_fd))
    dest = command("dest", "--listen", "127.0.0.1:0", "--once", *patient)
    with (
        subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, str(write_fd), *dest],
            pass_fds=[write_fd],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
            text=True,
        ) as supervisor,
        os.fdopen(read_fd) as status,
    ):
        os.close(write_fd)
        assert supervisor.stdout is not None
        pid = int(supervisor.stdout.readline())
        listening = json.loads(next(line for line in status if "listening" in line))
        try:
            yield supervisor, pid, f"127.0.0.1:{listening['listening']['port']}"
        finally:
            supervisor.kill()
            if not ended_within(END_S, pid):
                os.kill(pid, signal.SIGKILL)


def ended_within(limit_s: float, pid: int) -> bool:
    deadline = time.monotonic() + limit_s
    while state_of(pid) not in ("", "Z") and time.monotonic() < deadline:
        time.sleep(0.02)
    return state_of(pid) in ("", "Z")


def test_no_second_signal_is_needed_where_a_supervisor_has_died() -> None:
    """Its guest is whole there, and the source that is to have the result stands still."""
    still = ("--inject", "source/before-bye:stall:30s")
    with (
        supervised_destination() as (supervisor, dest, where),
        running(
            *("source", "--to", where, "--progress", "none", *OPTIONS, *still), status=False
        ) as source,
    ):
        wait_stopped(source.process.pid)
        supervisor.kill()
        assert ended_within(SILENT_S + 2 * SOON_S, dest)  # silence is trouble after a while


# -- hosts ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def hosts(tmp_path: Path) -> Iterator[tuple[Running, Running, Running]]:
    """Two, and a post-copy under way from the first to the second, which takes four seconds."""
    control = str(tmp_path / "first.sock")
    guest = ("--boot", "--guest", "g", "--memory", "16MiB", "--cache", "0")
    common = ("--listen", "127.0.0.1:0", "--stall-timeout", "300s")
    with (
        running("host", *common, "--control", control, *guest) as first,
        running("host", *common, "--control", f"{control}2") as second,
    ):
        first.wait_said("guest g runs here")
        to = f"127.0.0.1:{second.wait_key('listening')['port']}"
        slowly = ("--strategy", "post-copy", "--max-bandwidth", "4MB/s")
        limits = ("--stall-timeout", "300s", "--recover-timeout", "300s", "--progress", "none")
        with running("move", "--to", to, "--host", control, *slowly, *limits) as moving:
            moving.wait_phase("follows")
            yield first, second, moving


@pytest.mark.parametrize("which", ["sends", "receives"])
def test_two_signals_end_a_host_whose_other_host_stands_still(tmp_path: Path, which: str) -> None:
    with hosts(tmp_path) as (first, second, moving):
        host, other = (first, second) if which == "sends" else (second, first)
        with standing_still(other):
            host.tell(signal.SIGTERM)
            host.wait_said(AGAIN)
            ended = host.end_by(signal.SIGTERM)
        if which == "sends":
            moved = moving.end()
            assert moved.exit_code == 4, moved.stderr
            assert "lost" in moved.complaint
    assert ended.exit_code == 4, ended.stderr
    assert re.search(r"stopped: .*pages (of it )?are missing", ended.complaint), ended.stderr


def test_two_signals_end_a_move_whose_host_stands_still(tmp_path: Path) -> None:
    with hosts(tmp_path) as (first, _second, moving), standing_still(first):
        moving.tell(signal.SIGTERM)
        moving.wait_said(AGAIN)
        ended = moving.end_by(signal.SIGINT)
    assert ended.exit_code == 4, ended.stderr
    assert "the host does not answer" in ended.complaint
    assert "host list" in ended.complaint
