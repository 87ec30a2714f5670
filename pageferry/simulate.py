"""`pageferry simulate`: the same strategies on a simulated guest and link, in virtual time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import Parameter
from pydantic import ConfigDict, Field

from pageferry.common.cli import LimitOptions, OutputOptions, tell
from pageferry.common.config import MigrationConfig
from pageferry.common.errors import EXIT_OK, UsageError
from pageferry.common.invocation import stamp
from pageferry.common.notices import complain
from pageferry.common.options import Options, listed
from pageferry.common.reportfile import ReportFiles
from pageferry.common.status import Status

if TYPE_CHECKING:
    from pageferry.common.report import Report
    from pageferry.simulate_from import Measured

_NEVER: Final = {
    "inject": "a simulation has no connections to break",
    "timeout": "a simulated round cannot be cut short",
    "predict": "a simulation says nothing else",
}
_NOT_MODELLED: Final = {"compress": "none", "delta": "none"}
REFUSED: Final = (*_NEVER, *_NOT_MODELLED)  # options of a migration that a simulation may not have

GuestSpeed = Annotated[float, Field(ge=1, le=1e12)]


class SimulateOptions(Options):
    """What a simulation is made of, beside a migration's options."""

    model_config = ConfigDict(allow_inf_nan=False)

    link: Annotated[
        str,
        Field(
            description="rate=RATE,delay=TIME (one way; or rtt=TIME),loss=SHARE,mss=SIZE,"
            "window=SIZE"
        ),
    ] = ""
    guest_speed: Annotated[
        GuestSpeed | None,
        Field(
            description="steps a second of a vCPU that runs flat out; none: 100e6 in order, 10e6"
            " at random"
        ),
    ] = None
    from_file: Annotated[
        Path | None,
        Parameter(name="--from"),
        Field(description="re-run the migration of this REPORT.json, and say how far off it is"),
    ] = None
    evacuate: Annotated[
        Annotated[int, Field(ge=1, le=1_000_000)] | None,
        Field(description="plan the evacuation of N guests of a host over one uplink"),
    ] = None
    fleet: Annotated[
        Path | None,
        Field(description="the guests of --evacuate, as a TOML file describes them"),
    ] = None


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
        from pageferry.evacuate import evacuate

        return evacuate(config, options, output, enforce=limits.enforce)
    return _one(config, options, output, enforce=limits.enforce)


def why_refused(name: str, value: Any) -> str | None:
    """Why an option of `REFUSED` can't have this value; None: it can."""
    if name in _NEVER:
        return _NEVER[name] if value else None
    return None if value == _NOT_MODELLED[name] else "how pages shrink is measured, not modelled"


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
    from pageferry.common.console import ProgressView, print_report
    from pageferry.common.html import render
    from pageferry.common.limits import enforced, given, judge, warn

    measured = _measured(config, options)
    strategy = config.strategy if measured is None else measured.config.strategy
    warn([strategy], config)
    with ReportFiles(output) as files:
        with ProgressView(output.wish) as view:
            view.update(Status(phase="simulating"))
            report = simulated_report(config, options, measured)
        judge(report, given(config))
        stamp(report)
        sheet = None if measured is None else measured.compare(report)
        if output.json_file != "-":
            print_report(report)
            if sheet is not None:
                from pageferry import tables

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
    from pageferry.simulate_from import read_measured

    given = {name: getattr(config, name) for name in config.model_fields_set}
    return read_measured(options.from_file, given)


def simulated_report(
    config: MigrationConfig, options: SimulateOptions, measured: Measured | None = None
) -> Report:
    """One migration, simulated. Raises `UsageError`."""
    from pageferry.common.bound import over
    from pageferry.sim.conditions import simulated
    from pageferry.sim.link import parse_link
    from pageferry.sim.reporting import make_report, play

    link, about = parse_link(options.link), about_of(options)
    config = over(config, link.rate)
    if measured is not None:
        under = measured.conditions(link if options.link else None, options.guest_speed)
        about["simulated_from"] = str(options.from_file)
        return make_report(play(measured.config, under), about)
    return make_report(play(config, simulated(config, link, options.guest_speed)), about)


def about_of(options: SimulateOptions) -> dict[str, Any]:
    """For the report's `config`."""
    return {"link": options.link or None, "guest_speed": options.guest_speed}
