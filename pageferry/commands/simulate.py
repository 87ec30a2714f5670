"""`pageferry simulate`: the same strategies on a simulated guest and link, in virtual time."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from pageferry.common.command_line.run import LimitOptions, OutputOptions, tell
from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import EXIT_OK, UsageError
from pageferry.common.files.report_files import ReportFiles
from pageferry.common.process.notices import print_error
from pageferry.common.process.status import Status
from pageferry.sim.options import SimulationOptions, refuse


def simulate(
    *,
    config: Annotated[MigrationConfig | None, Parameter(name="*")] = None,
    options: Annotated[SimulationOptions | None, Parameter(name="*")] = None,
    limits: Annotated[LimitOptions | None, Parameter(name="*")] = None,
    output: Annotated[OutputOptions | None, Parameter(name="*")] = None,
) -> int:
    """Simulate a migration, or the evacuation of a host, in virtual time.

    The strategies are those that migrate a real guest; guest and link are figures, so that a guest
    may have any size and a link any rate. The report is a measured one's, with null where a
    simulation knows nothing.

    Args:
        config: Guest, strategy and transfer; None is all defaults.
        options: The link, the guest's speed, and what is simulated; None is all defaults.
        limits: What a missed limit does to the exit code.
        output: Where results and progress go; `log_dir` is refused.

    Returns:
        The exit code: 5 with --enforce where a limit would be missed, else 0.

    Raises:
        UsageError: An option is wrong, or is one that a simulation cannot have.
    """
    config, options = config or MigrationConfig(), options or SimulationOptions()
    output, limits = output or OutputOptions(), limits or LimitOptions()
    _refuse(config, options, output)
    from pageferry.sim.link import not_modelled, parse_link

    parse_link(options.link)  # here, before anything is imported that takes long
    tell([config], quiet=output.quiet)
    if (left_out := not_modelled(config.congestion)) is not None:
        print_error(left_out)
    if options.evacuate is not None or options.fleet is not None:
        from pageferry.commands.evacuate import evacuate

        return evacuate(config, options, output, enforce=limits.enforce)
    return _one(config, options, output, enforce=limits.enforce)


def _refuse(config: MigrationConfig, options: SimulationOptions, output: OutputOptions) -> None:
    refuse(config)
    if output.log_dir is not None:
        raise UsageError("--log-dir: a simulation writes no log, its events are in the report")
    if options.from_file is not None and (options.evacuate is not None or options.fleet):
        raise UsageError("--from re-runs one migration: it has nothing to do with --evacuate")


def _one(
    config: MigrationConfig, options: SimulationOptions, output: OutputOptions, *, enforce: bool
) -> int:
    from pageferry.common.html import render
    from pageferry.common.report.limits import enforced, warn_of_limit
    from pageferry.common.terminal.console import ProgressView, print_report
    from pageferry.runs.simulation import measured_of, run_simulation

    measured = measured_of(config, options)
    strategy = config.strategy if measured is None else measured.config.strategy
    warn_of_limit([strategy], config)
    with ReportFiles(output) as files:
        with ProgressView(output.wish) as view:
            view.update(Status(phase="simulating"))
            report = run_simulation(config, options, measured)
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
        print_error(missed)
    return code
