"""The command line of this checkout, or of the one that PAGEFERRY_CHECKOUT names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[2]
OTHER = os.environ.get("PAGEFERRY_CHECKOUT")
CHECKOUT = Path(OTHER).resolve() if OTHER else HERE
PYTHON = str(CHECKOUT / ".venv/bin/python") if OTHER else sys.executable
RUN_S = 100
SMALL = ("--memory", "16MiB", "--warmup", "0s", "--run-after", "0s", "--max-bandwidth", "unlimited")


@dataclass(frozen=True)
class Run:
    """One command that has ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The document on standard output; where there is none, what was said instead."""
        assert self.stdout, self.stderr
        return json.loads(self.stdout)

    @property
    def lines(self) -> list[str]:
        """Standard error by lines."""
        return self.stderr.strip().splitlines()

    @property
    def complaint(self) -> str:
        """The one line of ours on standard error that says how it ended; never a traceback."""
        assert "Traceback" not in self.stderr, self.stderr
        ours = [line for line in self.lines if line.startswith("pageferry: ")]
        assert ours, self.stderr
        return ours[-1]


def command(*arguments: str) -> list[str]:
    """What to start for `pageferry ARGUMENTS`."""
    return [PYTHON, "-P", "-m", "pageferry.cli", *arguments]


def environment(**more: str) -> dict[str, str]:
    """In which it finds the checkout's code, from any folder; `more` on top.

    Without asyncio's debug mode, in which the integration tests run: a user's terminal has none.
    """
    users = {key: value for key, value in os.environ.items() if key != "PYTHONASYNCIODEBUG"}
    return users | {"PYTHONPATH": str(CHECKOUT)} | more


def pageferry(*arguments: str, timeout: float = RUN_S, cwd: Path | None = None, **more: str) -> Run:
    """Run it to its end, in the checkout unless `cwd` says where. more: of the environment."""
    return run_words(command(*arguments), timeout=timeout, cwd=cwd, env=environment(**more))


def run_words(
    words: Sequence[str],
    *,
    timeout: float = RUN_S,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
) -> Run:
    """The same, of a command that starts pageferry within something, as a namespace.

    Not in the folder of the tests: another checkout's agents may import what is in it.
    """
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        cwd=cwd or CHECKOUT,
        env=environment() if env is None else env,
        stdin=subprocess.DEVNULL,
    )
    return Run(done.returncode, done.stdout, done.stderr)


def migrate(*arguments: str, **more: Any) -> Run:
    """A quick migration whose report is on standard output."""
    options = ("--json", "-", "--warmup", "100ms", "--run-after", "100ms")
    return pageferry("migrate", *options, *arguments, **more)
