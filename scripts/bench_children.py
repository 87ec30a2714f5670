"""Programs that a benchmark starts, what they cost, and whole migrations by real agents."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import EXIT_CANCELLED, CancelledByUser, PageferryError
from pageferry.common.process.python_command import python_command
from pageferry.common.report.schema import Report
from pageferry.pair import Pair

PATIENCE_S = 120.0
PROJECT = Path(__file__).resolve().parent.parent


def environment(checkout: Path) -> dict[str, str]:
    """The environment in which a checkout's own code is found, and never that of this one."""
    found = dict(os.environ)
    # As for whoever has installed it: otherwise the longer source takes longer to load.
    found.pop("PYTHONDONTWRITEBYTECODE", None)
    if checkout != PROJECT:  # `scripts/bench` has put this one in front
        paths = found.pop("PYTHONPATH", "").split(os.pathsep)
        users = [path for path in paths if path and Path(path).resolve() != PROJECT]
        if users:
            found["PYTHONPATH"] = os.pathsep.join(users)
    return found


@dataclass(frozen=True)
class Ended:
    """stdout: what had not been read. cpu_s: of its whole life, user and system."""

    stdout: str
    cpu_s: float


class Interrupts:
    """Ctrl-C, SIGTERM, SIGHUP: never while a child has been started and is not known yet.

    `KeyboardInterrupt` may be lost where Python has nobody to raise it to, as in a destructor:
    `seen` stays, and no further child is started then.
    """

    def __init__(self) -> None:
        self.seen = False
        self._held = False

    def handle(self, _number: int) -> None:
        """The signals' handler."""
        self.seen = True
        if not self._held:
            raise KeyboardInterrupt

    def check(self) -> None:
        """Raises `KeyboardInterrupt` where there was one."""
        if self.seen:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """They wait, for whoever checks afterwards."""
        self._held = True
        try:
            yield
        finally:
            self._held = False


INTERRUPTS: Final = Interrupts()


class Child:
    """A program, killed whatever happens; in a process group of its own, so that Ctrl-C is ours."""

    def __init__(
        self,
        arguments: Sequence[str],
        name: str | None = None,
        *,
        checkout: Path = PROJECT,
    ) -> None:
        """checkout: whose code it finds, and where it runs."""
        self.name = name or Path(arguments[0]).name
        setpriv = shutil.which("setpriv")  # dies with us, also where we are killed
        prefix = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
        INTERRUPTS.check()
        with INTERRUPTS.held(), contextlib.ExitStack() as closing:
            self._stderr = closing.enter_context(tempfile.TemporaryFile())
            self.process = subprocess.Popen(
                [*prefix, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                text=True,
                process_group=0,
                cwd=checkout,
                env=environment(checkout),
            )
            assert self.process.stdout is not None  # noqa: S101
            self._stdout = closing.enter_context(self.process.stdout)
            self._closing = closing.pop_all()
        if INTERRUPTS.seen:
            self.kill()
            INTERRUPTS.check()

    @classmethod
    def python(cls, module: str, *arguments: str) -> Self:
        """A module of ours."""
        return cls(python_command(module, *arguments), f"{module} {arguments[0]}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def line(self) -> str:
        """The next line that it says. Raises `PageferryError` where it ends instead."""
        line = self._stdout.readline()
        if not line:
            self.end()
            raise PageferryError(f"{self.name} said nothing and ended")
        return line.rstrip("\n")

    def end(self) -> Ended:
        """Wait for it. Raises `PageferryError` where it failed."""
        stdout = self._stdout.read()
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        if self.process.returncode != 0:
            raise PageferryError(f"{self.name} failed: {self.last_words()}")
        return Ended(stdout, usage.ru_utime + usage.ru_stime)

    def last_words(self) -> str:
        """The last line on its standard error."""
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self.process.returncode}"

    def kill(self) -> None:
        """Idempotent."""
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()
        self._closing.close()


def free_port() -> int:
    """A port of loopback on which nobody listens now: for programs that can't choose one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def migrated(**options: Any) -> Report:
    """One migration between two agents that are processes, and its report.

    The guest runs neither before nor afterwards, unless the options say so. It is verified, after
    what is measured. One that was given up at its `timeout` has the outcome `cancelled`. Raises
    `PageferryError` where it failed otherwise, `CancelledByUser` on Ctrl-C.
    """
    INTERRUPTS.check()
    settled = {"warmup": 0.0, "run_after": 0.0, **options}
    config = MigrationConfig.model_validate(settled)
    result = Pair(config, None).run(lambda _status: None)
    if result.exit_code == EXIT_CANCELLED:
        if result.report and any(each.event == "timeout" for each in result.report.events):
            return result.report
        raise CancelledByUser("cancelled")
    if result.exit_code or result.report is None:
        raise PageferryError(f"a migration failed: {result.error}")
    return result.report


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pageferry-bench-") as name:
        yield Path(name)
