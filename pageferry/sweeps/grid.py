"""A plan's cells, run into a folder: what the command and the API share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pageferry.common.errors import EXIT_FAILED, EXIT_LIMIT_MISSED, EXIT_OK, EXIT_USAGE, UsageError
from pageferry.runs.series import RunAttempt, Signals, worst_exit_code
from pageferry.sweeps.cell_filter import parse_filter
from pageferry.sweeps.cells import Cell, axes_of, make_cells
from pageferry.sweeps.driver import SweepWatcher
from pageferry.sweeps.ledger import RESULTS, Folder, Manifest, Record, pending, planned
from pageferry.sweeps.plan import SweepPlan, read_plan
from pageferry.sweeps.runners import Runner, runner_named


@dataclass(frozen=True, slots=True)
class Grid:
    """A plan with its cells.

    Attributes:
        name: The name of the plan's file, without the ending.
        axes: The options that vary; the first changes slowest.
        cells: All of the plan, in its order.
        chosen: Those that are to be run.
        runner: What runs them.
        folder: Where results go. It need not exist.
    """

    name: str
    axes: tuple[str, ...]
    cells: list[Cell]
    chosen: list[Cell]
    runner: Runner
    folder: Path

    def check_logs(self, log_dir: Path | None) -> None:
        """Refuse a folder for logs where there will be none.

        Args:
            log_dir: As `--log-dir` has it; None asks for no logs.

        Raises:
            UsageError: The runner writes no logs.
        """
        if log_dir is not None and not self.runner.has_logs:
            name = self.runner.name
            raise UsageError(f"--log-dir: runner {name} writes no logs, its events are reported")


class View(SweepWatcher, AbstractContextManager["View"], Protocol):
    """A watcher that is entered while cells are run."""


def make_grid(
    plan: Path, folder: Path | None, *, runner: str | None = None, choice: str | None = None
) -> Grid:
    """Read a plan, and make its cells.

    Args:
        plan: The TOML file.
        folder: Where results go. None takes the folder beside the plan that the plan names, or one
            with the plan's name; a runner other than the plan's adds `-RUNNER`.
        runner: `migrate` or `simulate`; None is the plan's own.
        choice: Which cells are to be run, as in `strategy=hybrid`; None is all.

    Returns:
        The cells. Nothing has been run or written.

    Raises:
        UsageError: Something in the plan is wrong; one line with the place.
    """
    found = read_plan(plan)
    by = _runner(found.runner, runner, plan)
    cells = make_cells(found, by, str(plan))
    chosen = _chosen(cells, choice, by)
    other = "" if by.name == found.runner else f"-{by.name}"
    folder = folder or plan.parent / f"{found.output or plan.stem}{other}"
    if folder.resolve() == plan.resolve():
        raise UsageError(f"{plan} is where its results would go: expected --output FOLDER")
    return Grid(plan.stem, tuple(axes_of(found)), cells, chosen, by, folder)


def grid_of(plan: SweepPlan, name: str, folder: Path) -> Grid:
    """Make the cells of a plan that is no file, all of which are to be run.

    Args:
        plan: The plan, which names its runner.
        name: Of the plan.
        folder: Where results go.

    Returns:
        The cells. Nothing has been run or written.
    """
    runner = runner_named(plan.runner)
    cells = make_cells(plan, runner, name)
    return Grid(name, tuple(axes_of(plan)), cells, cells, runner, folder)


def _runner(name: str, instead: str | None, file: Path) -> Runner:
    try:
        planned = runner_named(name)
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from None
    try:
        return planned if instead is None else runner_named(instead)
    except UsageError as error:
        raise UsageError(f"--{error}") from None


def _chosen(cells: list[Cell], text: str | None, runner: Runner) -> list[Cell]:
    if text is None:
        return cells
    choice = parse_filter(text, runner)
    chosen = [cell for cell in cells if choice(cell.row)]
    if not chosen:
        raise UsageError(f"--filter: none of {len(cells)} cells is like {text}")
    return chosen


def run_grid(
    grid: Grid,
    viewed: Callable[[Sequence[Cell], Sequence[tuple[Cell, Record]]], View],
    *,
    retry_failed: bool,
    scheduler: str | None,
    log_dir: Path | None,
    say: Callable[[str], None],
) -> tuple[dict[str, Record], bool]:
    """Run what is pending of the chosen cells, and write the Parquet file of all that is there.

    Args:
        grid: The cells, and where their results go.
        viewed: Makes the view, of what is to be run and what had finished before.
        retry_failed: Whether cells that have failed are run again.
        scheduler: The address of a Dask cluster; None runs the cells here.
        log_dir: Where each cell's log is kept; only for cells that are run here.
        say: Called with a line about each record that was damaged; its cell is run again.

    Returns:
        The records of all cells that have finished, by key, and whether the sweep was interrupted.

    Raises:
        UsageError: The folder or the cluster can't be used, or no cell can be run here.
        PageferryError: The cluster was lost on the way. What has finished is stored.
    """
    keys = [cell.key for cell in grid.cells]
    with Signals() as signals, Folder(grid.folder) as folder:
        manifest = Manifest(
            name=grid.name, runner=grid.runner.name, axes=grid.axes, cells=planned(grid.cells)
        )
        folder.describe(manifest)
        records, damaged = folder.records(keys, grid.runner)
        for line in damaged:
            say(f"{line}: its cell is run again")
        todo = pending(grid.chosen, records, retry_failed=retry_failed)
        again = {cell.key for cell in todo}
        done = [(c, records[c.key]) for c in grid.cells if c.key in records.keys() - again]
        interrupted = False
        try:
            if todo:
                with viewed(todo, done) as view:
                    interrupted = _run(grid, todo, folder, view, signals, scheduler, log_dir)
        finally:
            records, _ = folder.records(keys, grid.runner)
            _write(grid, manifest, folder, records)
    return records, interrupted


def _run(
    grid: Grid,
    todo: list[Cell],
    folder: Folder,
    view: SweepWatcher,
    signals: Signals,
    scheduler: str | None,
    log_dir: Path | None,
) -> bool:
    """Run cells here or on a cluster; return whether a signal came."""
    by = grid.runner
    if scheduler is None:
        from pageferry.sweeps.driver import run_here

        by.check([cell.config for cell in todo])
        return run_here(
            todo, runner=by, store=folder, watcher=view, signals=signals, log_dir=log_dir
        )
    from pageferry.sweeps.cluster import Cluster, connected

    with connected(scheduler) as client:
        cluster = Cluster(client, runner=by, store=folder, watcher=view, signals=signals)
        return cluster.run(todo)


def _write(grid: Grid, manifest: Manifest, folder: Folder, records: Mapping[str, Record]) -> None:
    """Write the Parquet file of all that has finished, by this sweep or an earlier one."""
    from pageferry.sweeps.parquet import make_results, to_parquet

    folder.write(RESULTS, to_parquet(make_results(manifest, records, grid.runner)))


def exit_code(records: Mapping[str, Record], *, enforce: bool = False) -> int:
    """Compute the exit code of a sweep, as of any series.

    Args:
        records: Of all cells that have finished, by key.
        enforce: Whether a missed limit is a failure.

    Returns:
        0 if all is well, 5 if only limits were missed and `enforce` asks, else the worst of the
        cells'; 2 only where no cell could be run.
    """
    attempts = [RunAttempt(0, None, each.exit_code, each.error) for each in records.values()]
    code = worst_exit_code(attempts)
    some = any(attempt.exit_code != EXIT_USAGE for attempt in attempts)
    if code == EXIT_OK and enforce and any(missed_limit(each) for each in records.values()):
        return EXIT_LIMIT_MISSED
    return EXIT_FAILED if code == EXIT_USAGE and some else code


def missed_limit(record: Record) -> bool:
    """Tell whether a cell missed a limit that it had.

    Args:
        record: Of the cell.

    Returns:
        True if its results name a missed limit.
    """
    return bool(record.results.get("limits_missed"))
