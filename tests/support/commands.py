"""Commands that stay: started, listened to, and ended whatever happens."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.command_line import CHECKOUT, PYTHON, RUN_S, Run, command, environment


class Agent:
    """A running command. `said` is what it has said on standard error so far."""

    def __init__(
        self, *arguments: str, cwd: Path | None = None, module: Sequence[str] = (), **more: str
    ) -> None:
        self.process = subprocess.Popen(
            [PYTHON, "-P", "-m", *module, *arguments] if module else command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd or CHECKOUT,
            env=environment(**more),
        )
        self.said = ""

    def wait_said(self, pattern: str, timeout_s: float = RUN_S) -> re.Match[str]:
        """Until it has said that; fails where it ends before, or takes too long."""
        assert self.process.stderr is not None
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as ready:
            ready.register(self.process.stderr, selectors.EVENT_READ)
            while (found := re.search(pattern, self.said)) is None:
                assert ready.select(deadline - time.monotonic()), f"never said: {self.said}"
                data = os.read(self.process.stderr.fileno(), 65536)
                assert data, f"it ended: {self.said}"
                self.said += data.decode()
        return found

    def end(self, timeout_s: float = RUN_S) -> Run:
        """Wait for its end."""
        out, err = self.process.communicate(timeout=timeout_s)
        self.said += err.decode()
        return Run(self.process.returncode, out.decode(), self.said)

    def kill(self) -> None:
        """If it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def agent(
    *arguments: str, cwd: Path | None = None, module: Sequence[str] = (), **more: str
) -> Iterator[Agent]:
    """A command, killed at the end if it has not ended by then.

    module: of the tests, and its own arguments, that stands before the command.
    """
    running = Agent(*arguments, cwd=cwd, module=module, **more)
    try:
        yield running
    finally:
        running.kill()


@contextlib.contextmanager
def destination(*options: str, listen: str = "127.0.0.1:0") -> Iterator[tuple[Agent, int]]:
    """`pageferry dest`, and its port."""
    with agent("dest", "--listen", listen, *options) as running:
        yield running, int(running.wait_said(r"listening on \S+:(\d+)", 30)[1])
