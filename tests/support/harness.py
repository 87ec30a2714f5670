"""Starting agents and reading what they say."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pageferry.common.process.python_command import python_command
from pageferry.common.report.schema import Report
from tests.support.spare import is_spare

RUN_S = 100
_NEGLECTED = re.compile("never retrieved|was destroyed but it is pending|was never awaited")


def neglected(text: str) -> str | None:
    """What asyncio says of a task or an exception that nobody has looked at."""
    found = _NEGLECTED.search(text)
    return found and found[0]


_PROGRESS = re.compile(r"\[ *\d+\.\d s\] ")


@dataclass(frozen=True)
class Run:
    """One command that has ended."""

    exit_code: int
    stdout: str
    stderr: str

    def __post_init__(self) -> None:
        assert not neglected(self.stderr), self.stderr

    @property
    def report(self) -> Report:
        return Report.model_validate_json(self.stdout)

    @property
    def said(self) -> list[str]:
        """Lines of standard error without those that only tell how far it is."""
        lines = self.stderr.strip().splitlines()
        return [line for line in lines if not _PROGRESS.match(line)]

    @property
    def complaint(self) -> str:
        """The one line on standard error. No traceback, nothing else but progress."""
        lines = self.said
        assert len(lines) == 1, self.stderr
        assert lines[0].startswith("pageferry: ")
        return lines[0]


def heard(stderr: str) -> str:
    """Without progress, and what asyncio's debug mode says of steps that took long."""
    return re.sub(r"(?m)^(Executing <.* took .* seconds|\[ *[\d.]+ s\] .*)\n", "", stderr)


def command(*arguments: str) -> list[str]:
    return python_command("pageferry.cli", *arguments)


def pageferry(*arguments: str, timeout: float = RUN_S) -> Run:
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=timeout, check=False
    )
    return Run(done.returncode, done.stdout, heard(done.stderr))


def migrate(*arguments: str) -> Run:
    """A quick migration whose report is on standard output."""
    return pageferry(
        "migrate", "--json", "-", "--warmup", "100ms", "--run-after", "100ms", *arguments
    )


class Agent:
    """A running agent, ended whatever happens."""

    _said = ""

    def __init__(self, *arguments: str) -> None:
        read_fd, write_fd = os.pipe()
        self.process = subprocess.Popen(
            command(*arguments, "--status-fd", str(write_fd)),
            pass_fds=[write_fd],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(write_fd)
        self._status = os.fdopen(read_fd)

    def wait_status(self, accept: Callable[[str, Any], bool]) -> Any:
        """Read status lines until one is accepted; fails when the agent ends before."""
        for line in self._status:
            for key, value in json.loads(line).items():
                if accept(key, value):
                    return value
        raise AssertionError(f"the agent ended: {self.process.communicate()[1]}")

    def wait_said(self, pattern: str) -> None:
        """Read its standard error until it has said that; fails when the agent ends before."""
        assert self.process.stderr is not None
        while not re.search(pattern, self._said):
            data = os.read(self.process.stderr.fileno(), 65536)
            assert data, self._said
            self._said += data.decode()

    def end(self, timeout: float = RUN_S) -> Run:
        """Wait for it."""
        self._status.close()
        out, err = self.process.communicate(timeout=timeout)
        return Run(self.process.returncode, out, heard(self._said + err))

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        with contextlib.suppress(OSError):
            self._status.close()


@contextlib.contextmanager
def agent(*arguments: str) -> Iterator[Agent]:
    running = Agent(*arguments)
    try:
        yield running
    finally:
        running.kill()


@contextlib.contextmanager
def destination(*arguments: str, listen: str = "127.0.0.1:0") -> Iterator[tuple[Agent, int]]:
    """A destination agent and its port."""
    with agent("dest", "--listen", listen, *arguments) as running:
        where = running.wait_status(lambda key, _value: key == "listening")
        yield running, int(where["port"])


def children_of(pid: int) -> list[int]:
    """Process ids of the living children, whichever thread has started them."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has ended meanwhile
            found += map(int, (task / "children").read_text().split())
    return [child for child in found if not is_spare(child)]


def wait_gone(pids: list[int], seconds: float = 20.0) -> list[int]:
    """Those of the processes that still live after at most that long."""
    deadline = time.monotonic() + seconds
    left = pids
    while left and time.monotonic() < deadline:
        left = [pid for pid in left if Path(f"/proc/{pid}").exists()]
        time.sleep(0.02)
    return left


def listening_ports(pid: int) -> list[int]:
    """TCP ports (IPv4) on which a process listens."""
    inodes = set()
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            target = os.readlink(entry)
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    ports = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[3] == "0A" and words[9] in inodes:
            ports.append(int(words[1].split(":")[1], 16))
    return ports
