"""The functions that block: Ctrl-C ends them as it ends the command."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Unpack

from pageferry.api import jobs, sweeping
from pageferry.api.running import OnStatus, run

if TYPE_CHECKING:
    from pageferry.api.options import (
        CompareOptions,
        MigrateOptions,
        PredictOptions,
        SimulateOptions,
        SweepOptions,
    )
    from pageferry.common.config.model import MigrationConfig
    from pageferry.common.report.schema import Report
    from pageferry.runs.prediction import Prediction
    from pageferry.runs.reports import Reports


def migrate(
    config: MigrationConfig | None = None,
    *,
    on_status: OnStatus | None = None,
    **options: Unpack[MigrateOptions],
) -> Report:
    """Migrate a live guest between two agents on this machine, as `pageferry migrate` does.

    It may be called on any thread, and while an event loop runs on it (as in a notebook).

    Args:
        config: Options that were made before; those that are given here come over them.
        on_status: Called on this thread with each moment, several a second. What it raises cancels
            the migration, and is raised when nothing of it is left.
        options: The command's, with `_` for `-`. Sizes are bytes or text (`"512MiB"`), rates bytes
            a second or text (`"100MB/s"`), times seconds or text (`"300ms"`), shares fractions or
            text (`"10%"`).

    Returns:
        What was measured. The guest was verified, unless `verify=False`.

    Raises:
        UsageError: An option is wrong, or what it needs is missing; nothing was started.
        MigrationError: The command's exit code would not be 0; it has the code and the report.
        Interrupted: Ctrl-C, in the main thread: a `KeyboardInterrupt` with the report.
    """
    return run(jobs.migration(config, options), on_status)


def compare(
    config: MigrationConfig | None = None,
    *,
    on_status: OnStatus | None = None,
    **options: Unpack[CompareOptions],
) -> Reports:
    """Migrate the same guest under several strategies, as `pageferry compare` does.

    Args:
        config: Options that were made before; those that are given here come over them.
        on_status: As in `migrate`.
        options: The command's, with `_` for `-`. `strategies`, `cache` and `granularity` take
            several values, as a list or separated by commas; each combination is a case. `runs` is
            how often each is run, in turn.

    Returns:
        The reports and their table. A run that fails is a row of it, and nothing is raised:
        `Reports.check` raises what `migrate` would.

    Raises:
        UsageError: An option is wrong, for one case or for all.
        Interrupted: Ctrl-C, in the main thread: a `KeyboardInterrupt` with the finished runs.
    """
    return run(jobs.comparison(config, options), on_status)


def predict(
    config: MigrationConfig | None = None,
    *,
    on_status: OnStatus | None = None,
    **options: Unpack[PredictOptions],
) -> Prediction:
    """Boot and measure a guest, and say what each strategy would cost, as `pageferry predict` does.

    The guest runs in a process of its own. Nothing is moved.

    Args:
        config: Options that were made before; those that are given here come over them.
        on_status: As in `migrate`.
        options: The command's, with `_` for `-`; `measure` is how long the guest is measured.

    Raises:
        UsageError: An option is wrong.
        MigrationError: The guest could not be measured.
        Interrupted: Ctrl-C, in the main thread.
    """
    return run(jobs.prediction(config, options), on_status)


def simulate(
    config: MigrationConfig | None = None,
    *,
    on_status: OnStatus | None = None,
    **options: Unpack[SimulateOptions],
) -> Report:
    """Simulate one migration in virtual time, as `pageferry simulate` does.

    Args:
        config: Options that were made before; those that are given here come over them.
        on_status: As in `migrate`.
        options: The command's, with `_` for `-`; `from_file` is `--from`.

    Returns:
        A report with null where a simulation knows nothing; `config["simulated"]` is true.

    Raises:
        UsageError: An option is wrong.
        MigrationError: A limit would be missed, and `enforce` was given.
        Interrupted: Ctrl-C, in the main thread.
    """
    return run(jobs.simulation(config, options), on_status)


def sweep(
    plan: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    *,
    on_status: OnStatus | None = None,
    **options: Unpack[SweepOptions],
) -> Reports:
    """Run what has not been run yet of a plan's cells into a folder, as `pageferry sweep` does.

    Whatever ends it, the same call goes on where it was.

    Args:
        plan: The TOML file.
        folder: Where results go; None is the one that the plan names, beside it.
        on_status: As in `migrate`.
        options: The command's, with `_` for `-`.

    Returns:
        The reports of all cells that have finished, by this call or an earlier one, and a table
        with a row for each. `Reports.check` raises where one has failed.

    Raises:
        UsageError: The plan or an option is wrong, or the folder can't be used.
        Interrupted: Ctrl-C, in the main thread: a `KeyboardInterrupt` with the finished cells.
    """
    return run(sweeping.sweeping(plan, folder, options), on_status)
