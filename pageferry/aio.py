"""The API for code that awaits: the functions of `pageferry`, which here are coroutines.

They end when their task is cancelled (`asyncio.timeout`, a task group, Ctrl-C under `asyncio.run`)
as the others do at Ctrl-C: the agents are told, the guest stays where the rules of the hand-over
say, no process, port or network is left, and then `CancelledError` is raised. As its attributes
`report` and `reports` it has what `Interrupted` has. `on_status` is called in the running loop.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Unpack

from pageferry.api import jobs, sweeping
from pageferry.api.running import OnStatus, run_async

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
    """Migrate a live guest between two agents on this machine: see `pageferry.migrate`."""
    return await run_async(jobs.migration(config, options), on_status)


async def compare(
    config: MigrationConfig | None = None,
    *,
    on_status: OnStatus | None = None,
    **options: Unpack[CompareOptions],
) -> Reports:
    """Migrate the same guest under several strategies: see `pageferry.compare`."""
    return await run_async(jobs.comparison(config, options), on_status)


async def predict(
    config: MigrationConfig | None = None,
    *,
    on_status: OnStatus | None = None,
    **options: Unpack[PredictOptions],
) -> Prediction:
    """Say what each strategy would cost: see `pageferry.predict`."""
    return await run_async(jobs.prediction(config, options), on_status)


async def simulate(
    config: MigrationConfig | None = None,
    *,
    on_status: OnStatus | None = None,
    **options: Unpack[SimulateOptions],
) -> Report:
    """Simulate one migration in virtual time: see `pageferry.simulate`."""
    return await run_async(jobs.simulation(config, options), on_status)


async def sweep(
    plan: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    *,
    on_status: OnStatus | None = None,
    **options: Unpack[SweepOptions],
) -> Reports:
    """Run a plan's cells into a folder: see `pageferry.sweep`."""
    return await run_async(sweeping.sweeping(plan, folder, options), on_status)
