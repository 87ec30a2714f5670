"""`pageferry migrate`: the main command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from pageferry.common.command_line.run import LimitOptions, OutputOptions, TlsOptions, tell
from pageferry.common.config.model import MigrationConfig
from pageferry.common.files.report_files import ReportFiles
from pageferry.common.process import signals
from pageferry.common.process.notices import print_error
from pageferry.common.process.status import Status, StatusPipe
from pageferry.net.options import NetOptions

if TYPE_CHECKING:
    from pageferry.runs.migration import Migrated


def migrate(
    *,
    config: Annotated[MigrationConfig | None, Parameter(name="*")] = None,
    tls: Annotated[TlsOptions | None, Parameter(name="*")] = None,
    net: Annotated[NetOptions | None, Parameter(name="*")] = None,
    limits: Annotated[LimitOptions | None, Parameter(name="*")] = None,
    output: Annotated[OutputOptions | None, Parameter(name="*")] = None,
    status_fd: Annotated[int | None, Parameter(show=False)] = None,
) -> int:
    """Migrate a live guest between two agents on this machine, and print what it cost.

    Starts a destination and a source agent as two processes on loopback (or, with --net, at the
    two ends of a network made for them), runs one migration, and prints a result table. Progress
    goes to standard error.

    Args:
        config: Guest, strategy and transfer; None is all defaults.
        tls: Keys for the connections between the agents; None is no TLS.
        net: The network between the agents; None is loopback.
        limits: What a missed limit does to the exit code.
        output: Where results and progress go; None is the terminal only.
        status_fd: Descriptor on which progress is written as JSON lines; None is none.

    Returns:
        The exit code: the source's, or 5 with --enforce where a limit was missed.
    """
    from pageferry.common.html import render_one
    from pageferry.common.report.binding_limit import config_over_link
    from pageferry.common.report.limits import enforced, warn_of_limit

    config = config or MigrationConfig()
    if net is not None:
        config = config_over_link(config, net.rate)
    output, limits = output or OutputOptions(), limits or LimitOptions()
    tls = tls or TlsOptions()
    tls.load()  # here, so that a mistake in it is bad usage of this command
    warn_of_limit([config.strategy], config)
    tell([config], quiet=output.quiet)
    pipe = StatusPipe(status_fd) if status_fd is not None else None
    with signals.noted(), ReportFiles(output) as files:
        ended = _follow(config, net, tls, output, pipe)
        report = ended.report
        _tell(ended, table=output.json_file != "-")
        if report is not None:
            files.write(report.to_json, lambda: render_one(report))
        code, missed = enforced(report, ended.exit_code, enforce=limits.enforce)
        if missed is not None:
            print_error(missed)
    return code


def _follow(
    config: MigrationConfig,
    net: NetOptions | None,
    tls: TlsOptions,
    output: OutputOptions,
    pipe: StatusPipe | None,
) -> Migrated:
    """Run the migration and show each moment."""
    from pageferry.common.terminal.console import ProgressView
    from pageferry.runs.migration import run_migration

    with ProgressView(output.wish) as view:

        def show(status: Status) -> None:
            view.update(status)
            if pipe is not None:
                pipe.write("status", status.model_dump())

        return run_migration(config, show, net=net, tls=tls, log_dir=output.log_dir)


def _tell(ended: Migrated, *, table: bool) -> None:
    """Print the result, and what a person should know about it."""
    from pageferry.common.terminal.console import print_report
    from pageferry.runs.migration import unreached_notice

    if ended.report is not None and table:
        print_report(ended.report)
    if ended.error is not None:
        print_error(ended.error)
    for fault in ended.unreached:
        print_error(unreached_notice(fault))
