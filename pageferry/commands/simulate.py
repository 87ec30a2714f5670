"""`pageferry simulate`: the same strategies on a simulated guest and link, in virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from pageferry.common.command_line.invocation import stamp
from pageferry.common.command_line.options import listed
from pageferry.common.command_line.run import LimitOptions, OutputOptions, tell
from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import EXIT_OK, UsageError
from pageferry.common.files.report_files import ReportFiles
from pageferry.common.process.notices import complain
from pageferry.common.process.status import Status
from pageferry.sim.options import REFUSED, SimulateOptions, why_refused

if TYPE_CHECKING:
    from pageferry.common.report.schema import Report
    from pageferry.runs.simulate_from import Measured


def simulate(
    *,
    config: Annotated[MigrationConfig | None, Parameter(name="*")] = None,
    options: Annotated[SimulateOptions | None, Parameter(name="*")] = None,
    limits: Annotated[LimitOptions | None, Parameter(name="*")] = None,
    output: Annotated[OutputOptions | None, Parameter(name="*")] = None,
) -> int:
    """Simulate a migration, or the evacuation of a host, in virtual time.

    The strategies are those that migrate a real guest; guest and link are figures, so that a guest
    may have any size and a link any rate. The report is a measured one's, with null where a
    simulation knows nothing.
    """
    config, options = config or MigrationConfig(), options or SimulateOptions()
    output, limits = output or OutputOptions(), limits or LimitOptions()
    _refuse(config, options, output)
    from pageferry.sim.link import MODELLED, parse_link

    parse_link(options.link)  # here, before anything is imported that takes its time
    tell([config], quiet=output.quiet)
    if config.congestion not in MODELLED:
        complain(
            f"--congestion {config.congestion}: a simulation knows {listed(MODELLED)}; loss and"
            " queues of the link are left out"
        )
    if options.evacuate is not None or options.fleet is not None:
        from pageferry.commands.evacuate import evacuate

        return evacuate(config, options, output, enforce=limits.enforce)
    return _one(config, options, output, enforce=limits.enforce)


def _refuse(config: MigrationConfig, options: SimulateOptions, output: OutputOptions) -> None:
    for name in REFUSED:
        why = why_refused(name, getattr(config, name))
        if why is not None:
            raise UsageError(f"--{name}: {why}")
    if output.log_dir is not None:
        raise UsageError("--log-dir: a simulation writes no log, its events are in the report")
    if options.from_file is not None and (options.evacuate is not None or options.fleet):
        raise UsageError("--from re-runs one migration: it has nothing to do with --evacuate")


def _one(
    config: MigrationConfig, options: SimulateOptions, output: OutputOptions, *, enforce: bool
) -> int:
    from pageferry.common.html import render
    from pageferry.common.report.limits import enforced, given, judge, warn
    from pageferry.common.terminal.console import ProgressView, print_report

    measured = _measured(config, options)
    strategy = config.strategy if measured is None else measured.config.strategy
    warn([strategy], config)
    with ReportFiles(output) as files:
        with ProgressView(output.wish) as view:
            view.update(Status(phase="simulating"))
            report = _simulated(config, options, measured)
        judge(report, given(config))
        stamp(report)
        sheet = None if measured is None else measured.compare(report)
        if output.json_file != "-":
            print_report(report)
            if sheet is not None:
                from pageferry.runs import tables

                sheet.print(tables.wide_console())
        files.write(
            report.to_json,
            lambda: render(
                [report],
                title="pageferry simulate",
                labels=[f"{report.strategy}, simulated"],
                tables=[] if sheet is None else [sheet.to_html()],
            ),
        )
    code, missed = enforced(report, EXIT_OK, enforce=enforce)
    if missed is not None:
        complain(missed)
    return code


def _measured(config: MigrationConfig, options: SimulateOptions) -> Measured | None:
    if options.from_file is None:
        return None
    from pageferry.runs.simulate_from import read_measured

    given = {name: getattr(config, name) for name in config.model_fields_set}
    return read_measured(options.from_file, given)


def _simulated(
    config: MigrationConfig, options: SimulateOptions, measured: Measured | None
) -> Report:
    if measured is None:
        from pageferry.sim.run import simulated_report

        return simulated_report(config, options)
    from pageferry.runs.simulate_from import simulated_again

    return simulated_again(measured, options)
