"""Commands of pageferry whose words and status are in files, and which start at once.

They are forked from a spare process also where others are loaded anew (`scripts/test --full`):
hundreds of cases could not afford it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.support.harness import RUN_S, Run, command, heard
from tests.support.spare import at_once


def last_status(path: Path, key: str) -> Any:
    """The last status of that key in an agent's file; None: there was none."""
    found = None
    for line in path.read_text().splitlines() if path.exists() else ():
        if line.endswith("}"):
            found = json.loads(line).get(key, found)
    return found


class Agent:
    """A `pageferry` command that runs. What it says is in files of `folder`, named after it."""

    def __init__(self, folder: Path, name: str, *arguments: str, agent: bool = True) -> None:
        self._files = folder / name
        with contextlib.ExitStack() as opened:
            out, err, status = (
                opened.enter_context(self._file(kind).open("wb"))
                for kind in ("out", "err", "status")
            )
            told = ("--status-fd", str(status.fileno())) if agent else ()
            with at_once():
                self.process = subprocess.Popen(
                    command(*arguments, *told),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    pass_fds=[status.fileno()],
                    process_group=0,
                )

    def _file(self, kind: str) -> Path:
        return self._files.with_name(f"{self._files.name}.{kind}")

    @property
    def exit_code(self) -> int | None:
        """None: it lives."""
        return self.process.poll()

    def read(self, kind: str) -> str:
        """So far. kind: `out`, `err` or `status`."""
        return heard(self._file(kind).read_text())

    def status(self, key: str) -> Any:
        """The last status of that key; None: there was none."""
        return last_status(self._file("status"), key)

    def wait_status(self, key: str, seconds: float = 30.0) -> Any:
        """Until it has said so."""
        deadline = time.monotonic() + seconds
        while (found := self.status(key)) is None:
            assert time.monotonic() < deadline, self.read("err")
            assert self.exit_code is None, self.read("err")
            time.sleep(0.005)
        return found

    def end(self, seconds: float) -> int:
        """Its exit code; it is killed, and the test fails, when it has not ended by then."""
        code = self._wait(seconds)
        if code is None:
            self.kill()
            raise AssertionError(f"it did not end within {seconds} s: {self.read('err')}")
        return code

    def _wait(self, seconds: float) -> int | None:
        deadline = time.monotonic() + seconds
        while (code := self.exit_code) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        return code

    def terminate(self, seconds: float = 20.0) -> int:
        """SIGTERM, also to one that has been stopped; its exit code."""
        if self.exit_code is None:
            self._signal(signal.SIGTERM)
            self._signal(signal.SIGCONT)
        return self.end(seconds)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended since somebody looked
            os.kill(self.process.pid, number)

    def kill(self) -> None:
        """Whatever its state; idempotent."""
        if self.exit_code is None:
            self._signal(signal.SIGKILL)
        self._wait(20)


def pageferry(*arguments: str) -> Run:
    """`harness.pageferry` that starts at once."""
    with tempfile.TemporaryDirectory() as folder:
        process = Agent(Path(folder), "command", *arguments, agent=False)
        exit_code = process.end(RUN_S)
        return Run(exit_code, process.read("out"), process.read("err"))


def migrate(*arguments: str, warmup: str = "100ms") -> Run:
    """`harness.migrate` by two agents that start at once, without a command above them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dest = Agent(folder, "dest", "dest", "--listen", "127.0.0.1:0", "--once", "--quiet")
        try:
            to = f"127.0.0.1:{dest.wait_status('listening')['port']}"
            options = "--quiet", "--json", "-", "--warmup", warmup, "--run-after", "100ms"
            source = Agent(folder, "source", "source", "--to", to, *options, *arguments)
            try:
                exit_code = source.end(RUN_S)
            finally:
                source.kill()
            return Run(exit_code, source.read("out"), source.read("err"))
        finally:
            dest.terminate()
