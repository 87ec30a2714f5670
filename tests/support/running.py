"""Commands that go on while a test does something to them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.support import entering
from tests.support.command_line import CHECKOUT, Run, command, environment

END_S = 60.0
SOON_S = 5.0  # what is promised of whoever is told to end, and insisted on


class Running:
    """`pageferry ARGUMENTS`, with its status pipe where it has one; ended whatever happens.

    steps: what it does before (`entering`).
    """

    def __init__(
        self,
        *arguments: str,
        status: bool = True,
        steps: Sequence[entering.Step] = (),
        **popen: Any,
    ) -> None:
        read_fd, write_fd = os.pipe()
        options = ("--status-fd", str(write_fd)) if status else ()
        usual: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": -1, "stderr": -1}
        usual |= {"cwd": CHECKOUT, "env": environment()}
        words = command(*arguments, *options)
        self.process = subprocess.Popen(
            entering.command(steps, words) if steps else words,
            pass_fds=[write_fd],
            text=True,
            **(usual | popen),
        )
        os.close(write_fd)
        self._status = os.fdopen(read_fd)
        self._said = ""

    def wait_status(self, accept: Callable[[str, Any], bool]) -> Any:
        """Read status lines until one is accepted; fails when the command ends before."""
        for line in self._status:
            for key, value in json.loads(line).items():
                if accept(key, value):
                    return value
        raise AssertionError(f"it ended: {self.process.communicate()}")

    def wait_key(self, key: str) -> Any:
        return self.wait_status(lambda found, _value: found == key)

    def wait_phase(self, words: str) -> None:
        self.wait_status(lambda key, value: key == "status" and words in value["phase"])

    def wait_said(self, pattern: str) -> None:
        """Read its standard error until it has said that."""
        assert self.says(pattern), self._said

    def says(self, pattern: str) -> bool:
        """Likewise; False: it has ended without."""
        assert self.process.stderr is not None
        number, deadline = self.process.stderr.fileno(), time.monotonic() + END_S
        while not re.search(pattern, self._said):
            left = deadline - time.monotonic()
            assert select.select([number], [], [], max(left, 0.0))[0], self._said
            data = os.read(number, 65536)
            if not data:
                return False
            self._said += data.decode()
        return True

    def tell(self, number: int) -> None:
        self.process.send_signal(number)

    def end_by(self, number: int) -> Run:
        """It ends soon by that signal, which is one too many for it."""
        began = time.monotonic()
        self.tell(number)
        ended = self.end()
        assert time.monotonic() - began < SOON_S, ended.stderr
        return ended

    def end(self, timeout: float = END_S) -> Run:
        """Wait for it."""
        with contextlib.closing(self._status):
            out, err = self.process.communicate(timeout=timeout)
        return Run(self.process.returncode, out or "", self._said + (err or ""))

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        with contextlib.suppress(ValueError):
            self.process.communicate()
        with contextlib.suppress(OSError):
            self._status.close()


@contextlib.contextmanager
def running(*arguments: str, **popen: Any) -> Iterator[Running]:
    one = Running(*arguments, **popen)
    try:
        yield one
    finally:
        one.kill()


@contextlib.contextmanager
def destination(*arguments: str, **popen: Any) -> Iterator[tuple[Running, str]]:
    """A destination agent, and its HOST:PORT."""
    with running("dest", "--listen", "127.0.0.1:0", *arguments, **popen) as dest:
        port = dest.wait_key("listening")["port"]
        yield dest, f"127.0.0.1:{port}"


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether that process has a handler for it by now; one that has ended needs none."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    except OSError:
        return True
    return True


@contextlib.contextmanager
def standing_still(one: Running) -> Iterator[None]:
    """Inside, that process does nothing."""
    one.tell(signal.SIGSTOP)
    try:
        yield
    finally:
        one.tell(signal.SIGCONT)


def state_of(pid: int) -> str:
    """Of a process, as /proc has it: T is stopped, Z a zombie; empty: it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
