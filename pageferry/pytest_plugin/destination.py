"""`pageferry_dest`: a destination agent for as long as a test, and migrations to it."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final, Self, Unpack

from pageferry.api.keywords import Keywords
from pageferry.api.running import Show, run_job
from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import PageferryError
from pageferry.common.process import signals
from pageferry.common.report.failure import MigrationError
from pageferry.common.report.limits import judge, limits_given
from pageferry.common.report.schema import Report
from pageferry.pair import ENDING_S, AgentProcess
from pageferry.pytest_plugin.limits import FigureLimits
from pageferry.pytest_plugin.migrating import small

if TYPE_CHECKING:
    from pageferry.api.options import GuestAndTransfer

_PATIENCE_S: Final = 2.0  # with an agent that nobody needs any more


class Destination:
    """A destination agent that listens and takes one guest after another; a context manager.

    Args:
        limits: The test's, to which every report is held.

    Attributes:
        host: Where it listens, 127.0.0.1.
        port: Where it listens, a free port that the system has chosen; 0 before it does.
        pid: Its process.
    """

    def __init__(self, limits: FigureLimits) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self._limits = limits
        self._agent: AgentProcess | None = None

    def __enter__(self) -> Self:
        options = ["--listen", f"{self.host}:0", "--quiet"]
        self._agent = AgentProcess("pageferry.dest_agent", options, ())
        try:
            bound = self._agent.until_listening()
            if bound is None:
                words = self._agent.last_words() or "no reason given"
                raise PageferryError(f"the destination agent did not start: {words}")
            self.port = int(bound["port"])
            return self
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        agent, self._agent = self._agent, None
        if agent is not None:
            agent.tell(signal.SIGTERM)
            agent.tell(signal.SIGINT)  # nobody wants what it still has
            agent.end(patience_s=_PATIENCE_S)

    @property
    def address(self) -> str:
        """HOST:PORT, as `pageferry source --to` takes it."""
        return f"{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        """The agent's process; raises `ValueError` once it has ended."""
        if self._agent is None:
            raise ValueError("the destination agent has ended")
        return self._agent.process.pid

    def migrate(self, *, to: str | None = None, **options: Unpack[GuestAndTransfer]) -> Report:
        """Migrate a guest to it, from a source agent that is started for that.

        Args:
            to: HOST:PORT by which the source reaches it, such as a proxy's; None is its own.
            options: Those of `pageferry_migrate`, without a network or TLS.

        Returns:
            The source agent's report. The test fails if it misses a limit of the test's marker.

        Raises:
            MigrationError: The exit code of the source agent is not 0.
            UsageError: An option is wrong.
        """
        chosen = small(None, dict(options))
        config = Keywords(chosen, MigrationConfig.model_fields).take(MigrationConfig)
        report = run_job(lambda show: self._migrate(config, to or self.address, show), None)
        judge(report, limits_given(config))
        return self._limits.check(report)

    @staticmethod
    def _migrate(config: MigrationConfig, to: str, show: Show) -> Report:
        arguments = ["--to", to, "--quiet", *config.flags()]
        source = AgentProcess("pageferry.source_agent", arguments, ())
        try:
            with signals.received(lambda _number: source.tell(signal.SIGINT)):
                code, said = source.follow(show)
            report = None if said is None else Report.model_validate(said)
            words = source.last_words() or "no reason given"
        finally:
            source.tell(signal.SIGINT)
            source.end(patience_s=ENDING_S)
        if code or report is None:
            raise MigrationError(words, code, report)
        return report
