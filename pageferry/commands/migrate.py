"""`pageferry migrate`: the main job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from pageferry.common.command_line.run import LimitOptions, OutputOptions, TlsOptions, tell
from pageferry.common.config.model import MigrationConfig
from pageferry.common.files.report_files import ReportFiles
from pageferry.common.inject import for_agent, parse_injection
from pageferry.common.process import signals
from pageferry.common.process.notices import complain
from pageferry.common.process.status import Status, StatusPipe
from pageferry.net.options import NetOptions

if TYPE_CHECKING:
    from pageferry.common.report.schema import Report


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
    """
    from pageferry.common.html import render_one
    from pageferry.common.report.binding_limit import over
    from pageferry.common.report.limits import enforced, given, judge, warn
    from pageferry.common.terminal.console import ProgressView, print_report
    from pageferry.net.run import Network
    from pageferry.pair import Pair

    config = config or MigrationConfig()
    if net is not None:
        config = over(config, net.rate)
    output, limits = output or OutputOptions(), limits or LimitOptions()
    tls = tls or TlsOptions()
    tls.load()  # here, so that what is wrong with it is bad usage of this command
    warn([config.strategy], config)
    tell([config], quiet=output.quiet)
    pipe = StatusPipe(status_fd) if status_fd is not None else None
    with signals.noted(), ReportFiles(output) as files:
        with ProgressView(output.wish) as view:

            def show(status: Status) -> None:
                view.update(status)
                if pipe is not None:
                    pipe.write("status", status.model_dump())

            with Network(net, show) as network:
                result = Pair(config, output.log_dir, tls, network.route).run(network.show)
        report = result.report
        if report is not None:
            network.tell(report)
            judge(report, given(config))
        if report is not None and output.json_file != "-":
            print_report(report)
        if result.error is not None:
            complain(result.error)
        if report is not None and report.outcome == "completed":
            for fault in unreached(config.inject, report):
                complain(f"--inject {fault}: this migration never came to it")
        if report is not None:
            files.write(report.to_json, lambda: render_one(report))
        code, missed = enforced(report, result.exit_code, enforce=limits.enforce)
        if missed is not None:
            complain(missed)
    return code


def unreached(faults: Sequence[str], report: Report) -> list[str]:
    """Those that did not happen: of a migration that went well, that must not pass for survival.

    Of a destination's nothing is known where its result, which has its events, never came.
    """
    happened = {
        getattr(event, "fault", None) for event in report.events if event.event == "injected"
    }
    heard = {event.agent for event in report.events}
    known = [each for each in faults if not for_agent("dest", [each]) or "dest" in heard]
    return [fault for fault in known if str(parse_injection(fault)) not in happened]
