"""One migration from its options to how it ended: what the command and the API share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pageferry.common.command_line.invocation import command_line, written
from pageferry.common.command_line.run import TlsOptions
from pageferry.common.config.model import MigrationConfig
from pageferry.common.inject import Injection
from pageferry.common.process.notices import notify_once
from pageferry.common.process.status import Status
from pageferry.common.report.limits import judge, limits_given
from pageferry.common.report.schema import Report
from pageferry.net.options import NetOptions
from pageferry.net.run import Network
from pageferry.pair import Pair, PairResult


@dataclass(frozen=True, slots=True)
class Migrated:
    """How a migration ended.

    Attributes:
        report: None where it failed without one.
        exit_code: Of the command, a limit that was missed left aside.
        error: What went wrong, in one line; None where nothing did.
        unreached: Injected faults that did not happen, though the migration went well.
    """

    report: Report | None
    exit_code: int
    error: str | None
    unreached: tuple[str, ...] = ()


def run_migration(
    config: MigrationConfig,
    show: Callable[[Status], None],
    *,
    net: NetOptions | None = None,
    tls: TlsOptions | None = None,
    log_dir: Path | None = None,
    say: Callable[[str], None] = notify_once,
) -> Migrated:
    """Run one migration between two agents here, over a network of its own where one is asked for.

    Args:
        config: The guest, the strategy, and how the guest travels.
        show: Called with each status.
        net: The network; None is loopback as it is.
        tls: Keys of both agents' connections; None for no TLS.
        log_dir: Where a log of every event is kept; None keeps none.
        say: Called with each line of the agents that a person should see.

    Returns:
        How it ended, even if it failed after it had begun.

    Raises:
        UsageError: An option is wrong, or what it needs is missing.
        PageferryError: An agent or the network could not be started, or it was cancelled before.
    """
    with Network(net, show) as network:
        pair = Pair(config, log_dir, tls, network.route, say)
        result = pair.run(network.show)
    report = result.report
    if report is not None:
        network.tell(report)
        judge(report, limits_given(config))
        report.command = command_line() or written(_alone(config, net, tls))
    return _ended(config, result)


def _ended(config: MigrationConfig, result: PairResult) -> Migrated:
    report = result.report
    missing = unreached(config.inject, report) if report is not None else []
    if report is None or report.outcome != "completed":
        missing = []
    return Migrated(report, result.exit_code, result.error, tuple(missing))


def _alone(config: MigrationConfig, net: NetOptions | None, tls: TlsOptions | None) -> list[str]:
    """Make the command that would run it, where nobody typed one."""
    words = ["pageferry", "migrate", *config.flags()]
    for options in (net, tls):
        given_ones = {} if options is None else options.model_dump(exclude_defaults=True)
        for name, value in given_ones.items():
            values = value if isinstance(value, tuple) else (value,)
            flag = f"--{name.replace('_', '-')}"
            words += [word for each in values for word in (flag, str(each))]
    return words


def unreached(faults: Sequence[Injection], report: Report) -> list[Injection]:
    """List the injected faults that did not happen.

    In a migration that went well, a fault that did not happen must not pass for one survived. Of a
    destination's faults nothing is known where its result, which has its events, never came.

    Args:
        faults: What was to be injected.
        report: Its events tell what happened.

    Returns:
        Those that are known not to have happened.
    """
    happened = {
        getattr(event, "fault", None) for event in report.events if event.event == "injected"
    }
    heard = {event.agent for event in report.events}
    known = [each for each in faults if each.agent != "dest" or "dest" in heard]
    return [fault for fault in known if fault not in happened]


def unreached_notice(fault: str) -> str:
    """Say that an injected fault did not happen.

    Args:
        fault: As `--inject` takes it.

    Returns:
        One line.
    """
    return f"--inject {fault}: this migration never came to it"
