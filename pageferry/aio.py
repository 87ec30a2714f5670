"""The API for code that awaits: the functions of `pageferry`, as coroutines.

When their task is cancelled (`asyncio.timeout`, a task group, Ctrl-C under `asyncio.run`), they end
as the blocking functions do at Ctrl-C: the agents are told, the guest stays where the rules of the
hand-over put it, and no process, port or network is left behind. Then `CancelledError` is raised,
with the attributes of `Interrupted`: `report` and `reports`. `on_status` is called in the running
loop.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Unpack

from pageferry.api import jobs, sweeping
from pageferry.api.running import OnStatus, run_job_async

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

__all__ = ["compare", "migrate", "predict", "simulate", "sweep"]


async def migrate(
    config: MigrationConfig | None = None,
    *,
    on_status: OnStatus | None = None,
    **options: Unpack[MigrateOptions],
) -> Report:
    """Migrate a live guest between two agents on this machine, as `pageferry.migrate` does.

    Args:
        config: Options made beforehand; those given as keywords override them.
        on_status: Called in the running loop with each `Status`; what it raises ends the migration.
        options: Options of the command, as for `pageferry.migrate`.

    Returns:
        The report of the migration.

    Raises:
        UsageError: An option is wrong, or something that it needs is missing.
        MigrationError: The migration did not end as it should have.
        CancelledError: The task was cancelled; its `report` is what had been measured.
    """
    return await run_job_async(jobs.migrate_job(config, options), on_status)


async def compare(
    config: MigrationConfig | None = None,
    *,
    on_status: OnStatus | None = None,
    **options: Unpack[CompareOptions],
) -> Reports:
    """Migrate the same guest under several strategies, as `pageferry.compare` does.

    Args:
        config: Options made beforehand; those given as keywords override them.
        on_status: As for `migrate`.
        options: Options of the command, as for `pageferry.compare`.

    Returns:
        The reports and their table; a run that failed is a row of it.

    Raises:
        UsageError: An option is wrong, for one case or for all.
        CancelledError: The task was cancelled; its `reports` are the runs that had finished.
    """
    return await run_job_async(jobs.compare_job(config, options), on_status)


async def predict(
    config: MigrationConfig | None = None,
    *,
    on_status: OnStatus | None = None,
    **options: Unpack[PredictOptions],
) -> Prediction:
    """Measure a guest and estimate what each strategy would cost, as `pageferry.predict` does.

    Args:
        config: Options made beforehand; those given as keywords override them.
        on_status: As for `migrate`.
        options: Options of the command, as for `pageferry.predict`.

    Returns:
        The prediction, and the options that it was made for.

    Raises:
        UsageError: An option is wrong.
        MigrationError: The guest could not be measured.
        CancelledError: The task was cancelled.
    """
    return await run_job_async(jobs.predict_job(config, options), on_status)


async def simulate(
    config: MigrationConfig | None = None,
    *,
    on_status: OnStatus | None = None,
    **options: Unpack[SimulateOptions],
) -> Report:
    """Simulate one migration in virtual time, as `pageferry.simulate` does.

    Args:
        config: Options made beforehand; those given as keywords override them.
        on_status: As for `migrate`.
        options: Options of the command, as for `pageferry.simulate`.

    Returns:
        A report with None where a simulation knows nothing.

    Raises:
        UsageError: An option is wrong.
        MigrationError: A limit would be missed, and `enforce` was given.
        CancelledError: The task was cancelled; the simulation is played to its end before.
    """
    return await run_job_async(jobs.simulate_job(config, options), on_status)


async def sweep(
    plan: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    *,
    on_status: OnStatus | None = None,
    **options: Unpack[SweepOptions],
) -> Reports:
    """Run the cells of a plan that have not been run yet, as `pageferry.sweep` does.

    Args:
        plan: The plan, a TOML file.
        folder: Where the results go; None is the folder that the plan names.
        on_status: As for `migrate`.
        options: Options of the command, as for `pageferry.sweep`.

    Returns:
        The reports of all cells that have finished, by this call or an earlier one.

    Raises:
        UsageError: The plan or an option is wrong, or the folder cannot be used.
        CancelledError: The task was cancelled; its `reports` are the cells that have finished.
    """
    return await run_job_async(sweeping.sweep_job(plan, folder, options), on_status)
