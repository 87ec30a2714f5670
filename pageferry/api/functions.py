"""The functions that block: Ctrl-C ends them as it ends the command."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Unpack

from pageferry.api import jobs, sweeping
from pageferry.api.running import OnStatus, run_job

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

    A source agent boots a guest, lets it run for `warmup`, and moves it while it runs to a
    destination agent, where it runs for `run_after`. Then it is verified: a replay of the guest has
    to end with the same memory.

        >>> report = pageferry.migrate(workload="zipf:rate=40MB/s", strategy="hybrid")
        >>> report.downtime_ms, report.total_time_ms, report.verified

    It may be called on any thread, also where an event loop is running (as in a notebook); the
    calling thread waits.

    Args:
        config: Options made beforehand; those given as keywords override them.
        on_status: Called on the calling thread with each `Status`, several a second. What it raises
            cancels the migration, and is raised here once nothing of the migration is left.
        options: The command's options, with `_` for `-` and the same defaults: `memory`, `vcpus`,
            `workload`, `cache`, `strategy`, `downtime_limit`, `max_bandwidth`, `net`, `tls`,
            `log_dir`, `enforce` and the others of `pageferry migrate --help`, except those about
            the terminal and files of results (`--quiet`, `--json`, `--html`). Sizes are bytes or
            text (`"512MiB"`), rates bytes per second or text (`"100MB/s"`), times seconds or text
            (`"300ms"`), shares fractions or text (`"10%"`).

    Returns:
        What was measured. The guest was verified, unless `verify=False`.

    Raises:
        UsageError: An option is wrong, or something that it needs is missing; nothing was moved.
        MigrationError: The command's exit code would not be 0; the error has it as `exit_code`, and
            as `report` what was measured.
        Interrupted: Ctrl-C in the main thread: a `KeyboardInterrupt` with the report.
    """
    return run_job(jobs.migrate_job(config, options), on_status)


def compare(
    config: MigrationConfig | None = None,
    *,
    on_status: OnStatus | None = None,
    **options: Unpack[CompareOptions],
) -> Reports:
    """Migrate the same guest under several strategies, as `pageferry compare` does.

        >>> reports = pageferry.compare(strategies=["pre-copy", "post-copy"], runs=3)
        >>> reports.check().table_frame()

    Args:
        config: Options made beforehand; those given as keywords override them.
        on_status: As for `migrate`.
        options: The command's options, with `_` for `-`. `strategies`, `cache` and `granularity`
            take several values, as a list or as text with commas; each combination of them is a
            case. `runs` is how often each case is run; the cases take turns.

    Returns:
        The reports of all runs, and a table with a row for each case. A run that fails raises
        nothing here: `Reports.check` raises what `migrate` would.

    Raises:
        UsageError: An option is wrong, for one case or for all.
        Interrupted: Ctrl-C in the main thread: a `KeyboardInterrupt` with the finished runs as
            `reports`.
    """
    return run_job(jobs.compare_job(config, options), on_status)


def predict(
    config: MigrationConfig | None = None,
    *,
    on_status: OnStatus | None = None,
    **options: Unpack[PredictOptions],
) -> Prediction:
    """Measure a guest and estimate what each strategy would cost, as `pageferry predict` does.

    The guest is booted in a process of its own, and ends with it. Nothing is moved.

        >>> found = pageferry.predict(workload="zipf:rate=40MB/s", downtime_limit="50ms").prediction
        >>> found.choice, [(each.strategy, each.downtime_ms) for each in found.strategies]

    Args:
        config: Options made beforehand; those given as keywords override them.
        on_status: As for `migrate`.
        options: The command's options, with `_` for `-`; `measure` is for how long the guest is
            measured.

    Returns:
        The estimates for each strategy and what they were made from (`prediction`), and the options
        (`config`).

    Raises:
        UsageError: An option is wrong.
        MigrationError: The guest could not be booted or measured.
        Interrupted: Ctrl-C in the main thread.
    """
    return run_job(jobs.predict_job(config, options), on_status)


def simulate(
    config: MigrationConfig | None = None,
    *,
    on_status: OnStatus | None = None,
    **options: Unpack[SimulateOptions],
) -> Report:
    """Simulate one migration in virtual time, as `pageferry simulate` does.

    No guest is booted and no network used: any size and any rate will do.

        >>> report = pageferry.simulate(
        ...     memory="64GiB", workload="zipf:rate=1GB/s", link="rate=25gbit,delay=1ms"
        ... )

    Args:
        config: Options made beforehand; those given as keywords override them.
        on_status: As for `migrate`.
        options: The command's options, with `_` for `-`; `from_file` is `--from`. Where
            `link` has no rate, `max_bandwidth` (100MB/s by default) is the limit.

    Returns:
        A report as of a real migration, with None where a simulation knows nothing;
        `config["simulated"]` is true.

    Raises:
        UsageError: An option is wrong.
        MigrationError: A limit would be missed, and `enforce` was given.
        Interrupted: Ctrl-C in the main thread.
    """
    return run_job(jobs.simulate_job(config, options), on_status)


def sweep(
    plan: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    *,
    on_status: OnStatus | None = None,
    **options: Unpack[SweepOptions],
) -> Reports:
    """Run the cells of a plan that have not been run yet, as `pageferry sweep` does.

    Whatever ends it, the same call continues where it was.

    Args:
        plan: The plan, a TOML file.
        folder: Where the results go; None is the folder that the plan names, beside the plan.
        on_status: As for `migrate`.
        options: The command's options, with `_` for `-`: `runner`, `filter`, `retry_failed`,
            `scheduler`, `log_dir` and `enforce`.

    Returns:
        The reports of all cells that have finished, by this call or an earlier one, and a table
        with a row for each of these cells. `Reports.check` raises where one has failed.

    Raises:
        UsageError: The plan or an option is wrong, or the folder cannot be used.
        Interrupted: Ctrl-C in the main thread: a `KeyboardInterrupt` with the finished cells as
            `reports`.
    """
    return run_job(sweeping.sweep_job(plan, folder, options), on_status)
