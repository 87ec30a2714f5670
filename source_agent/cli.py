"""The commands `pageferry source` and `python -m pageferry.source_agent`."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from pydantic import Field

from pageferry.common.assumed_bandwidth import check_assumed
from pageferry.common.capacity.agents import source_needs, start_agent
from pageferry.common.command_line.run import LimitOptions, OutputOptions, TlsOptions, tell
from pageferry.common.config.addresses import parse_address
from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import EXIT_OK, PageferryError
from pageferry.common.files.report_files import ReportFiles
from pageferry.common.inject import only_for
from pageferry.common.process import signals
from pageferry.common.process.notices import print_error, redirect
from pageferry.common.process.status import Status, StatusPipe, supervised
from pageferry.common.process.threads import failure_of
from pageferry.common.report.schema import Report
from pageferry.common.wire.congestion import need_congestion
from pageferry.common.wire.tls_credentials import ClientTls
from pageferry.common.workload.registry import parse_workload


def source(
    *,
    to: Annotated[str, Parameter(name="--to"), Field(description="HOST:PORT of the destination")],
    config: Annotated[MigrationConfig | None, Parameter(name="*")] = None,
    tls: Annotated[TlsOptions | None, Parameter(name="*")] = None,
    limits: Annotated[LimitOptions | None, Parameter(name="*")] = None,
    output: Annotated[OutputOptions | None, Parameter(name="*")] = None,
    status_fd: Annotated[int | None, Parameter(name="--status-fd", show=False)] = None,
    supervisor: Annotated[int | None, Parameter(show=False)] = None,
    witness: Annotated[Path | None, Parameter(show=False)] = None,
) -> int:
    """Boot a guest, run it, migrate it to a destination agent, and print the result.

    Args:
        to: HOST:PORT of the destination agent.
        config: Options of the migration; None: all defaults.
        tls: Options of TLS; None: plain TCP.
        limits: Whether a missed limit changes the exit code; None: it does not.
        output: Where report, log and progress go; None: the defaults.
        status_fd: Descriptor on which a supervisor reads status lines; None: no supervisor.
        supervisor: Process id of the supervisor; None: the parent.
        witness: File in which tests see the guest's heartbeats.

    Returns:
        The exit code.
    """
    from pageferry.common.report.limits import enforced, warn_of_limit

    config = config or MigrationConfig()
    output = output or OutputOptions()
    address = parse_address(to, "--to")
    only_for("source", config.inject)
    check_assumed(config, address[0])
    need_congestion(config.congestion)
    parse_workload(config.workload).pinned()  # an unreadable trace is refused before we connect
    secure = (tls or TlsOptions()).load()
    if status_fd is None:
        warn_of_limit([config.strategy], config)
    pipe = None
    supervisor = supervised(status_fd, supervisor)
    if status_fd is not None:
        pipe = StatusPipe(status_fd)
        redirect(functools.partial(pipe.write, "notice"))  # nobody sees our standard error
    tell([config], quiet=output.quiet or pipe is not None)
    with signals.noted(), ReportFiles(output) as files:
        code, report = _run(config, address, secure, output, pipe, files, witness, supervisor)
        code, missed = enforced(report, code, enforce=(limits or LimitOptions()).enforce)
        if missed is not None:
            print_error(missed)
        return code


def _run(
    config: MigrationConfig,
    address: tuple[str, int],
    secure: ClientTls | None,
    output: OutputOptions,
    pipe: StatusPipe | None,
    files: ReportFiles,
    witness: Path | None,
    supervisor: int | None,
) -> tuple[int, Report]:
    channels, vcpus = config.channels, config.vcpus
    what = f"a source with {vcpus} vCPU(s) and {channels} channel(s)"
    start_agent(what, source_needs(config, tls=secure is not None))
    # numba takes half a second to import: only after the arguments have been checked.
    from pageferry.common.guest.jit import must_compile
    from pageferry.common.html import render_one
    from pageferry.common.process.logs import AgentLog
    from pageferry.common.report.limits import judge, limits_given
    from pageferry.common.terminal.console import ProgressView, print_report
    from pageferry.source_agent.agent import SourceAgent

    must_compile()
    log = AgentLog("source", log_dir=output.log_dir, quiet=True)
    with contextlib.closing(log), ProgressView("none" if pipe is not None else output.wish) as view:

        def show(status: Status) -> None:
            view.update(status)
            if pipe is not None:
                pipe.write("status", status.model_dump())

        agent = SourceAgent(config, address, log, show, secure, witness, supervisor)
        report, error = agent.run()
    try:
        if pipe is None:  # else the supervisor knows what the user gave
            judge(report, limits_given(config))
        if pipe is not None:
            pipe.write("report", report.model_dump(mode="json"))
        elif output.json_file != "-":
            print_report(report)
    except (OSError, PageferryError):
        raise
    except Exception as failure:  # noqa: BLE001 - how it ended is said whatever the report is
        print_error(f"the report can't be shown: {failure_of(failure)}")
    if error is not None:
        print_error(str(error))
    files.write(report.to_json, lambda: render_one(report))
    return EXIT_OK if error is None else error.exit_code, report
