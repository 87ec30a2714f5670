"""`pageferry_hosts`: hosts that keep guests, and the commands that are given to them."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tempfile
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, Unpack

from pydantic import BaseModel

from pageferry.api.keywords import Keywords
from pageferry.common.config.guest import GuestConfig
from pageferry.common.config.model import option_words
from pageferry.common.errors import EXIT_USAGE, PageferryError, UsageError
from pageferry.common.process.python_command import python_command
from pageferry.common.report.failure import MigrationError
from pageferry.common.report.schema import Report
from pageferry.pair import AgentProcess, last_line
from pageferry.pytest_plugin.limits import FigureLimits
from pageferry.pytest_plugin.migrating import SMALL

if TYPE_CHECKING:
    from pageferry.api.options import GuestOptions, TransferOptions

_PATIENCE_S: Final = 3.0  # with a host that nobody needs any more


class HostProcess:
    """A host in a process of its own.

    Args:
        control: Where its control socket is made; short enough for a socket's name.
        limits: The test's, to which every report is held.

    Raises:
        PageferryError: The host did not start.

    Attributes:
        address: HOST:PORT on which it listens for guests.
        control: Its control socket, as `--host` of the commands takes it.
    """

    def __init__(self, control: Path, limits: FigureLimits) -> None:
        self.control = control
        self.address = ""
        self._limits = limits
        options = ["host", "--listen", "127.0.0.1:0", "--control", str(control), "--quiet"]
        self._agent = AgentProcess("pageferry.cli", options, ())
        try:
            self._await()
        except BaseException:
            self.end()
            raise

    def _await(self) -> None:
        bound = self._agent.until_listening()
        if bound is None:
            words = self._agent.last_words() or "no reason given"
            raise PageferryError(f"the host did not start: {words}")
        self.address = f"{bound['host']}:{bound['port']}"

    @property
    def pid(self) -> int:
        """The host's process."""
        return self._agent.process.pid

    def end(self) -> None:
        """End the host, and its guests with it."""
        self._agent.tell(signal.SIGTERM)
        self._agent.end(patience_s=_PATIENCE_S)

    def boot(self, name: str | None = None, **options: Unpack[GuestOptions]) -> str:
        """Boot a guest, of 16 MiB unless the options say otherwise.

        Args:
            name: None lets the host find one.
            options: Those of a guest, with `_` for `-`.

        Returns:
            The guest's name.

        Raises:
            UsageError: An option is wrong.
            PageferryError: The host could not boot it; with the command's exit code.
        """
        chosen = {"memory": SMALL["memory"], **options}
        named = ["--guest", name] if name is not None else []
        return self._asked("host", "boot", *named, *_flags(GuestConfig, chosen)).strip()

    def guests(self) -> dict[str, str]:
        """Ask what each guest is doing.

        Returns:
            States, such as `running`, by guest name.
        """
        listed = json.loads(self._asked("host", "list", "--json", "-"))
        return {each["name"]: each["state"] for each in listed["guests"]}

    def move(
        self, to: HostProcess, guest: str | None = None, **options: Unpack[TransferOptions]
    ) -> Report:
        """Have the host send a guest to another host.

        Args:
            to: The other host.
            guest: Its name; not needed if there is only one.
            options: Those of `pageferry move`, with `_` for `-`.

        Returns:
            The report. The test fails if it misses a limit of the test's marker.

        Raises:
            MigrationError: The exit code of the command is neither 0 nor that of bad usage.
            UsageError: An option or the guest's name is wrong.
        """
        from pageferry.commands.move import MoveConfig

        named = ["--guest", guest] if guest is not None else []
        flags = _flags(MoveConfig, dict(options))
        done = self._run("move", "--to", to.address, "--json", "-", "--quiet", *named, *flags)
        report = Report.model_validate_json(done.stdout) if done.stdout else None
        if done.returncode == EXIT_USAGE:
            raise UsageError(_said(done))
        if done.returncode or report is None:
            raise MigrationError(_said(done), done.returncode, report)
        return self._limits.check(report)

    def verify(self, guest: str | None = None) -> None:
        """Prove that a guest lost nothing, however often it was moved.

        Args:
            guest: Its name; not needed if there is only one.

        Raises:
            PageferryError: It is not what it must be, or could not be digested.
        """
        named = ["--guest", guest] if guest is not None else []
        self._asked("host", "verify", *named)

    def _asked(self, *words: str) -> str:
        done = self._run(*words)
        if done.returncode:
            failure = PageferryError(_said(done))
            failure.exit_code = done.returncode
            raise failure
        return done.stdout

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command that is given to the host; it is killed if the test is interrupted."""
        arguments = [*words, "--host", str(self.control)]
        return subprocess.run(  # noqa: S603 - our own interpreter and module
            python_command("pageferry.cli", *arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


class Hosts:
    """Starts hosts as they are asked for, and ends them after the test; a context manager.

    Args:
        limits: The test's, to which every report is held.

    Attributes:
        here: A host.
        there: Another one.
    """

    def __init__(self, limits: FigureLimits) -> None:
        self._limits = limits
        self._hosts: dict[str, HostProcess] = {}
        self._folder: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for host in self._hosts.values():
                host.end()
        finally:
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)

    def __getitem__(self, name: str) -> HostProcess:
        """Return the host of that name; it is started if there is none yet."""
        if self._folder is None:  # not in `tmp_path`, which may be too long for a socket's name
            self._folder = Path(tempfile.mkdtemp(prefix="pageferry-"))
        if name not in self._hosts:
            self._hosts[name] = HostProcess(self._folder / f"{len(self._hosts)}.sock", self._limits)
        return self._hosts[name]

    @property
    def here(self) -> HostProcess:
        """A host."""
        return self["here"]

    @property
    def there(self) -> HostProcess:
        """Another host."""
        return self["there"]


def _flags(model: type[BaseModel], options: dict[str, Any]) -> list[str]:
    """Return what was given as command-line options; raise `UsageError` for what is wrong."""
    config = Keywords(options, model.model_fields).take(model)
    values = {name: getattr(config, name) for name in options}
    words = (option_words(name, each, model) for name, each in values.items() if each is not None)
    return list(chain.from_iterable(words))


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return last_line(done.stderr) or f"exit code {done.returncode}"
