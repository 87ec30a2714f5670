"""One migration in virtual time, from options to its report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pageferry.sim.options import SimulationOptions, about_of

if TYPE_CHECKING:
    from pageferry.common.config.model import MigrationConfig
    from pageferry.common.report.schema import Report


def simulated_report(config: MigrationConfig, options: SimulationOptions) -> Report:
    """Simulate one migration.

    Args:
        config: The guest, the strategy and the transfer.
        options: The link, and the guest's speed.

    Returns:
        The report; its limits have not been judged.

    Raises:
        UsageError: The link or the workload is wrong, or nothing limits the rate.
    """
    from pageferry.common.report.binding_limit import config_over_link
    from pageferry.sim.conditions import simulated_conditions
    from pageferry.sim.link import parse_link
    from pageferry.sim.reporting import make_simulated_report, play

    link = parse_link(options.link)
    config = config_over_link(config, link.rate)
    return make_simulated_report(
        play(config, simulated_conditions(config, link, options.guest_speed)), about_of(options)
    )
