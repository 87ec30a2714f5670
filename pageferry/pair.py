"""A destination and a source agent as two processes on loopback, for one migration."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from pageferry.common.capacity.agents import check_pair
from pageferry.common.capacity.oom import OomWatch, how_ended
from pageferry.common.command_line.invocation import stamp_report
from pageferry.common.command_line.run import TlsOptions
from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import (
    EXIT_CANCELLED,
    EXIT_IN_DOUBT,
    EXIT_NOT_VERIFIED,
    EXIT_OK,
    EXIT_USAGE,
    CancelledByUser,
    UsageError,
)
from pageferry.common.guest_location import TABLE, When, Who, location_error, location_sentence
from pageferry.common.inject import for_agent
from pageferry.common.process import signals
from pageferry.common.process.notices import notify_once
from pageferry.common.process.python_command import python_command
from pageferry.common.process.status import Status, read_status
from pageferry.common.report.schema import Outcome, Report
from pageferry.common.units import format_time

ENDING_S = 10.0  # how long an agent may take to end by itself, and again after SIGTERM
ORPHANED_S = 2.0  # the same where nobody is left to send the pages that a guest may lack
NOT_BEGUN: Final = location_sentence("cancelled before the migration began", Who.USER, When.NOTHING)
_OUTCOMES: Final[dict[int, Outcome]] = {EXIT_IN_DOUBT: "lost", EXIT_CANCELLED: "cancelled"}


@dataclass(frozen=True, slots=True)
class PairResult:
    """How a migration ended.

    Attributes:
        report: As the source gave it, also for a migration that failed; None if there is none.
        exit_code: What the command is to exit with, missed limits aside.
        error: What went wrong, in one line; mostly what the source said last. None if nothing did.
    """

    report: Report | None
    exit_code: int
    error: str | None

    @property
    def outcome(self) -> Outcome:
        """Outcome as the report says it, or as the exit code implies where there is no report."""
        return self.report.outcome if self.report else _OUTCOMES.get(self.exit_code, "failed")


@dataclass(frozen=True, slots=True)
class Route:
    """Where the two agents run, and how the source reaches the destination.

    Attributes:
        dest_prefix: Words that go before the destination agent's command, such as those that enter
            a network namespace.
        source_prefix: The same for the source agent.
        listen: HOST:PORT for the destination to listen on; port 0 takes a free one.
        private: Whether nobody else can reach that address, so that the destination may listen on
            it without TLS.
        hostname: Name in the certificate that the source expects if the user gives none; only used
            with TLS. None is the host that it connects to.
        reach: Turns the port on which the destination listens into the source's HOST:PORT.
    """

    dest_prefix: tuple[str, ...] = ()
    source_prefix: tuple[str, ...] = ()
    listen: str = "127.0.0.1:0"
    private: bool = False
    hostname: str | None = None
    reach: Callable[[int], str] = "127.0.0.1:{}".format


LOOPBACK: Final = Route()


def last_line(text: str) -> str | None:
    """Find the last line that a command of ours wrote to standard error.

    Args:
        text: All that it wrote.

    Returns:
        That line without `pageferry: ` in front; None if it wrote nothing.
    """
    lines = text.strip().splitlines()
    return lines[-1].removeprefix("pageferry: ") if lines else None


class AgentProcess:
    """One agent process, its status pipe and what it wrote to standard error.

    It has a process group of its own: Ctrl-C reaches only this process, which decides whom to tell.

    Args:
        module: The module of ours that it runs, such as `pageferry.dest_agent`.
        arguments: Its command line; `--status-fd` and `--supervisor` are added.
        prefix: Words that go before the interpreter, such as those that enter a network namespace;
            empty for none.

    Attributes:
        process: The process itself, in a process group of its own.
        notices: Lines for a person that it has sent so far; filled as its status is read.
    """

    def __init__(self, module: str, arguments: Sequence[str], prefix: Sequence[str]) -> None:
        self._oom = OomWatch()
        read_fd, write_fd = os.pipe()
        self.notices: list[str] = []  # lines that it has for a person
        # In memory: there may be no room for a file. Closed by end().
        self._stderr: IO[bytes] = os.fdopen(os.memfd_create("stderr"), "w+b")
        try:
            with signals.blocked():
                self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and modules
                    [
                        *prefix,
                        *python_command(module, *arguments),
                        *("--status-fd", str(write_fd), "--supervisor", str(os.getpid())),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._stderr,
                    pass_fds=[write_fd],
                    process_group=0,
                )
        except BaseException:
            os.close(read_fd)
            self._stderr.close()
            raise
        finally:
            os.close(write_fd)
        self._status = os.fdopen(read_fd, encoding="utf-8")

    @property
    def killed_by(self) -> str | None:
        """Signal that killed the process, with the reason if it is known; None if none has."""
        code = self.process.poll()
        return None if code is None else how_ended(code, self._oom)

    def status(self) -> Iterator[tuple[str, Any]]:
        """Read the agent's status lines until it ends; notices are kept in `notices` instead.

        Yields:
            Key and value of each line, as `common.process.status` describes them.
        """
        for key, value in read_status(self._status):
            if key == "notice":
                self.notices.append(str(value))
            else:
                yield key, value

    def until_listening(self) -> dict[str, Any] | None:
        """Wait until the agent listens.

        Returns:
            Where it listens (`host`, `port`, for a host of guests also `control`); None if it ended
            before.
        """
        for key, value in self.status():
            if key == "listening":
                return dict(value)
        self.process.wait()
        return None

    def follow(self, show: Callable[[Status], None]) -> tuple[int, Any]:
        """Read the agent's status until it ends.

        Args:
            show: Called on this thread with each moment of the migration.

        Returns:
            Its exit code (negative: the signal that killed it), and the report as it came, not
            validated; None if it gave none.
        """
        report = None
        for key, value in self.status():
            if key == "status":
                show(Status.model_validate(value))
            elif key == "report":
                report = value
        return self.process.wait(), report

    def last_words(self) -> str | None:
        """Read the last line on the agent's standard error; only before `end`, which closes it.

        Returns:
            That line, without `pageferry: ` in front; None if it has said nothing.
        """
        self._stderr.seek(0)
        return last_line(self._stderr.read().decode(errors="replace"))

    def tell(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it still runs.

        Args:
            number: The signal.
        """
        if self.process.poll() is None:
            self.process.send_signal(number)

    def finish(self, *, patience_s: float) -> None:
        """Stop the process with SIGTERM, then SIGKILL; its output can still be read to the end.

        Args:
            patience_s: Seconds to wait after each of the two signals.
        """
        for number in (signal.SIGTERM, signal.SIGKILL):
            self.tell(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience_s)
                return

    def end(self, *, patience_s: float, told: bool = False) -> int:
        """Wait for the process to end, then send SIGTERM, then SIGKILL, and close its pipes.

        Args:
            patience_s: Seconds to wait before the first signal, and after each.
            told: Whether SIGTERM has been sent already; SIGKILL then comes first.

        Returns:
            Its exit code; negative is the signal that killed it.
        """
        for number in (None, signal.SIGKILL) if told else (None, signal.SIGTERM, signal.SIGKILL):
            if number is not None:
                self.tell(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience_s)
                break
        if self.process.returncode is not None:
            for _ in self.status():  # read what nobody has read yet
                pass
        self._status.close()
        self._stderr.close()
        return self.process.returncode


class Pair:
    """One migration between two agents, each in a process of its own.

    Signals that come while it runs cancel it, as they do in the source agent.

    Args:
        config: The migration; each agent is given its own faults of `inject`.
        log_dir: Folder in which both agents keep logs of their events; None keeps none.
        tls: Keys for the connections between the agents; None, or one without a folder, is no TLS.
        route: Where the agents run, and how they reach each other.
        say: Called at the end with each distinct line that an agent has for a person.
    """

    def __init__(
        self,
        config: MigrationConfig,
        log_dir: Path | None,
        tls: TlsOptions | None = None,
        route: Route = LOOPBACK,
        say: Callable[[str], None] = notify_once,
    ) -> None:
        self._config = config
        self._say = say
        self._route = route
        self._secured = tls is not None and tls.tls is not None
        tls = tls or TlsOptions()
        secure = ["--tls", str(tls.tls)] if tls.tls else []
        hostname = tls.tls_hostname or (route.hostname if tls.tls else None)
        self._source_options = [*secure, *(["--tls-hostname", hostname] if hostname else [])]
        self._dest_options = secure or (["--insecure"] if route.private else [])
        self._log_options = ["--log-dir", str(log_dir)] if log_dir else []
        self._dest: AgentProcess | None = None
        self._source: AgentProcess | None = None
        self._cancelled = False

    def run(self, show: Callable[[Status], None]) -> PairResult:
        """Start both agents, follow the source, and end both; it can be done once.

        Args:
            show: Called on this thread with each moment of the migration.

        Returns:
            How it ended, also where it failed after both agents had been started.

        Raises:
            CancelledByUser: A signal came before the source agent was started.
            UsageError: This machine has no room for both agents, or the destination refused its
                options.
            PageferryError: The destination agent did not start.
        """
        with signals.received(self._forward):
            try:
                return self._run(show)
            finally:
                if self._source is not None:
                    self._source.end(patience_s=ENDING_S)
                if self._dest is not None:
                    self._dest.tell(signal.SIGTERM)
                    well = self._source is not None and self._source.process.returncode == 0
                    if not well:  # its source will not come back: waiting is no use
                        self._dest.tell(signal.SIGINT)
                    self._dest.end(patience_s=ENDING_S if well else ORPHANED_S, told=not well)
                agents = (self._dest, self._source)
                lines = [line for agent in agents if agent for line in agent.notices]
                for line in dict.fromkeys(lines):  # both load the same kernels, and say the same
                    self._say(line)

    def _run(self, show: Callable[[Status], None]) -> PairResult:
        show(Status(phase="starting the agents"))
        if self._cancelled:  # by a signal that came earlier and was noted
            raise CancelledByUser(NOT_BEGUN)
        config = self._config
        check_pair(config, tls=self._secured)
        options = ["--listen", self._route.listen, "--once", "--quiet", *self._log_options]
        options += ["--stall-timeout", format_time(config.stall_timeout), *self._dest_options]
        for fault in for_agent("dest", config.inject):
            options += ["--inject", fault]
        self._dest = AgentProcess("pageferry.dest_agent", options, self._route.dest_prefix)
        port = self._await_port(self._dest)
        if self._cancelled:
            raise CancelledByUser(NOT_BEGUN)
        ours = config.model_copy(update={"inject": for_agent("source", config.inject)})
        to = ["--to", self._route.reach(port), "--quiet", *self._log_options]
        arguments = [*to, *self._source_options, *ours.flags()]
        self._source = AgentProcess("pageferry.source_agent", arguments, self._route.source_prefix)
        if self._cancelled:  # the signal came while it was being started
            self._source.tell(signal.SIGINT)
        exit_code, said = self._source.follow(show)
        report = None if said is None else Report.model_validate(said)
        if report is not None:
            stamp_report(report, ("pageferry", "migrate", *config.flags()))
        error = self._source.last_words() if exit_code else None
        if error is not None and (killed := self._dest.killed_by) is not None:
            error = f"{error}; the destination agent was ended by {killed}"
        if exit_code < 0:
            exit_code, error = self._source_was_killed(signal.Signals(-exit_code).name)
            if report is not None and report.outcome == "completed":
                # It was killed after all was done and reported.
                exit_code = EXIT_NOT_VERIFIED if report.error else EXIT_OK
                error = report.error
        return PairResult(report, exit_code, error)

    def _source_was_killed(self, name: str) -> tuple[int, str]:
        """Give exit code and message of a killed source: the destination knows how far it got."""
        assert self._dest is not None  # noqa: S101
        killed_by = self._source.killed_by if self._source is not None else None
        self._dest.finish(patience_s=ORPHANED_S)
        said = {key for key, _ in self._dest.status()}
        when = When.WHOLE if "whole" in said else When.PARTLY if "resumed" in said else When.BEFORE
        what = f"the source agent was ended by {killed_by or name}"
        return TABLE[Who.SOURCE, when].exit_code, location_sentence(what, Who.SOURCE, when)

    def _await_port(self, dest: AgentProcess) -> int:
        bound = dest.until_listening()
        if bound is not None:
            return int(bound["port"])
        if self._cancelled:
            raise CancelledByUser(NOT_BEGUN)
        killed_by = dest.killed_by
        ended = "no reason given" if killed_by is None else f"it was ended by {killed_by}"
        words = dest.last_words() or ended
        if dest.process.returncode == EXIT_USAGE:
            raise UsageError(words)
        raise location_error(
            f"the destination agent did not start: {words}", Who.DEST, When.NOTHING
        )

    def _forward(self, _number: int) -> None:
        """Pass a signal on: to the source, which knows whether it is too late, if there is one."""
        self._cancelled = True
        agent = self._source or self._dest
        if agent is not None:
            agent.tell(signal.SIGINT)
