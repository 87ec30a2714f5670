"""One simulated migration, from its options to its report: what the command and the API share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pageferry.common.command_line.invocation import stamp_report
from pageferry.common.config.model import MigrationConfig
from pageferry.common.report.limits import judge, limits_given
from pageferry.sim.options import SimulationOptions, about_of

if TYPE_CHECKING:
    from pageferry.common.report.schema import Report
    from pageferry.runs.simulate_from import MeasuredMigration


def measured_of(config: MigrationConfig, options: SimulationOptions) -> MeasuredMigration | None:
    """Read the measured migration that is to be simulated.

    Args:
        config: Only options that were given, defaults aside, replace the measured ones.
        options: Only `from_file` is looked at.

    Returns:
        The migration; None where none is named.

    Raises:
        UsageError: It can't be read, or can't be simulated.
    """
    if options.from_file is None:
        return None
    from pageferry.runs.simulate_from import read_measured

    return read_measured(options.from_file, config.as_given())


def run_simulation(
    config: MigrationConfig, options: SimulationOptions, measured: MeasuredMigration | None
) -> Report:
    """Simulate one migration in virtual time.

    Args:
        config: The guest, the strategy, and how the guest travels. Of these `measured` has its own.
        options: The link and the guest's speed.
        measured: What `measured_of` has read; None simulates `config`.

    Returns:
        The report, with the limits that were missed and the command that made it.

    Raises:
        UsageError: An option is wrong.
    """
    if measured is None:
        from pageferry.sim.run import simulated_report

        report = simulated_report(config, options)
    else:
        from pageferry.runs.simulate_from import simulated_again

        report = simulated_again(measured, options)
    judge(report, limits_given(config))
    stamp_report(report, alone(config, about_of(options)))
    return report


def alone(config: MigrationConfig, about: dict[str, Any]) -> list[str]:
    """Make the command that would simulate this alone.

    Args:
        config: Options that have their defaults are left out.
        about: `link` and `guest_speed`, as `about_of` makes them; None for a default.

    Returns:
        The words of the command, the program first.
    """
    link = ["--link", str(about["link"])] if about["link"] else []
    speed = about["guest_speed"]
    more = [] if speed is None else ["--guest-speed", f"{speed:g}"]
    return ["pageferry", "simulate", *config.flags(), *link, *more]
