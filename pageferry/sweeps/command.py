"""`pageferry sweep PLAN.toml`: run what has not been run yet, and write the results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter
from pydantic import Field

from pageferry.common.command_line.run import tell
from pageferry.common.errors import EXIT_CANCELLED, EXIT_OK, UsageError
from pageferry.common.files.report_files import need_folder
from pageferry.common.process.notices import print_error
from pageferry.common.process.status import StatusPipe
from pageferry.common.terminal.progress import ProgressOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pageferry.sweeps.cells import Cell
    from pageferry.sweeps.grid import Grid
    from pageferry.sweeps.ledger import Record

_MOST_LISTED: Final = 10  # lines about what went wrong


class SweepCommandOptions(ProgressOptions):
    """How a plan is run."""

    runner: Annotated[
        str | None,
        Field(
            description="migrate or simulate, in the place of the plan's own; the FOLDER's name"
            " then ends in -RUNNER"
        ),
    ] = None
    filter: Annotated[
        str | None,
        Field(
            description="only cells like this: OPTION=VALUE[|VALUE...],... as in strategy=hybrid"
        ),
    ] = None
    retry_failed: Annotated[
        bool, Parameter(negative=""), Field(description="run cells again that have failed")
    ] = False
    dry_run: Annotated[
        bool, Parameter(negative=""), Field(description="list the cells, run none")
    ] = False
    output: Annotated[
        Path | None,
        Field(description="FOLDER of the results, in the place of the one that the plan names"),
    ] = None
    scheduler: Annotated[
        str | None,
        Field(description="run the cells on the Dask cluster at this ADDRESS, tcp://HOST:8786"),
    ] = None
    log_dir: Annotated[
        Path | None, Field(description="keep a log of every event of each cell in this folder")
    ] = None
    enforce: Annotated[
        bool,
        Parameter(negative=""),
        Field(description="a limit of a cell that was missed: exit code 5"),
    ] = False


def sweep(
    plan: Annotated[Path, Parameter(help="the plan, a TOML file; docs/sweeps.md shows one")],
    *,
    options: Annotated[SweepCommandOptions | None, Parameter(name="*")] = None,
    status_fd: Annotated[int | None, Parameter(show=False)] = None,
) -> int:
    """Run a grid of migrations, one after another, into one folder.

    A plan has fixed options, axes, and a number of repeats. Each combination is a cell: a real
    migration, with a shaped network of its own where the plan has net, or with --runner simulate
    one in virtual time. A cell that fails is a result. However the sweep ends, the same command
    continues where it stopped. Then look at the results: pageferry sweep show FOLDER.

    Args:
        plan: The plan.
        options: How it is run; None is all defaults.
        status_fd: Where a supervisor reads the progress; None without one.

    Returns:
        The exit code.
    """
    from pageferry.common.command_line.libraries import require_library
    from pageferry.sweeps.grid import exit_code, make_grid, run_grid
    from pageferry.sweeps.progress import SweepView

    options = options or SweepCommandOptions()
    grid = make_grid(plan, options.output, runner=options.runner, choice=options.filter)
    tell((cell.config for cell in grid.chosen), quiet=options.quiet)
    if options.dry_run:
        return _list(grid, retry_failed=options.retry_failed)
    grid.check_logs(options.log_dir)
    require_library("pageferry sweep", "pyarrow")
    if options.scheduler is not None:
        require_library("--scheduler", "distributed")
        if options.log_dir is not None:
            raise UsageError("--log-dir is for cells that are run here: not with --scheduler")
    if options.log_dir is not None:
        need_folder(options.log_dir, "--log-dir")
    _warn(grid.chosen)
    pipe = StatusPipe(status_fd) if status_fd is not None else None
    records, interrupted = run_grid(
        grid,
        lambda todo, done: SweepView(todo, done, wish=options.wish, pipe=pipe),
        retry_failed=options.retry_failed,
        scheduler=options.scheduler,
        log_dir=options.log_dir,
        say=_say_some(),
    )
    _say(grid, records, interrupted=interrupted)
    return EXIT_CANCELLED if interrupted else exit_code(records, enforce=options.enforce)


def _say_some() -> Callable[[str], None]:
    """Make a function that complains, but no more often than anybody reads."""
    said = 0

    def say(line: str) -> None:
        nonlocal said
        said += 1
        if said <= _MOST_LISTED:
            print_error(line)

    return say


def _warn(cells: Sequence[Cell]) -> None:
    """Warn of cells that have a limit which their strategies do not look at."""
    from pageferry.common.report.limits import (
        DOWNTIME,
        limit_warning,
        limits_given,
        print_warning,
        stops_by_limit,
    )

    limited = [each.config for each in cells if DOWNTIME in limits_given(each.config)]
    blind = [each for each in limited if not stops_by_limit(each.strategy, dict(each))]
    print_warning(
        limit_warning(
            [each.strategy for each in blind], [each.downtime_limit for each in blind], {}
        )
    )


def _say(grid: Grid, records: Mapping[str, Record], *, interrupted: bool) -> None:
    from pageferry.sweeps.grid import missed_limit

    finished = f"{len(records)} of {len(grid.cells)} cells have finished"
    if interrupted:
        print_error(f"cancelled: {finished}, they are kept; the same command goes on from there")
        return
    failed = [record for record in records.values() if record.failed]
    words = f"{finished}, {len(failed)} of them failed" if failed else finished
    print(f"{grid.folder}: {words}")
    said = [records[cell.key] for cell in grid.chosen if records[cell.key].failed]
    for record in said[:_MOST_LISTED]:
        print_error(f"{record.label}: {record.error or f'exit code {record.exit_code}'}")
    if len(said) > _MOST_LISTED:
        print_error(f"and {len(said) - _MOST_LISTED} more: cell_error in pageferry sweep show")
    missed = sum(missed_limit(record) for record in records.values())
    if missed:
        print(f"{missed} of them missed a limit: limits_missed in pageferry sweep show")


def _list(grid: Grid, *, retry_failed: bool) -> int:
    """List what would be run, and how long that would take (`--dry-run`)."""
    from pageferry.runs.tables import Sheet, print_text, wide_console
    from pageferry.sweeps.ledger import pending, read_records
    from pageferry.sweeps.progress import TimeLeft, rough_duration

    cells, chosen = grid.cells, grid.chosen
    records, _ = read_records(grid.folder, (cell.key for cell in cells), grid.runner)
    todo = pending(chosen, records, retry_failed=retry_failed)
    again = {cell.key for cell in todo}
    rows = tuple((cell.key, cell.label, _state(cell, records, again)) for cell in chosen)
    console = wide_console()
    Sheet(str(grid.folder), ("cell", "options", "state"), rows, left=3).print(console)
    done = [(cell, records[cell.key]) for cell in cells if cell.key in records]
    seconds = rough_duration(TimeLeft.of(todo, done).seconds())
    how = (
        f"about {seconds}, if they take as much longer than calculated as the finished ones"
        if done
        else f"at least {seconds}: each page once, and the times that the cells are told to wait"
    )
    print_text(console, f"{len(todo)} of {len(cells)} cells are to be run: {how}.")
    return EXIT_OK


def _state(cell: Cell, records: Mapping[str, Record], again: set[str]) -> str:
    record = records.get(cell.key)
    if record is None:
        return "to be run"
    state = "failed" if record.failed else "finished"
    return f"{state}, to be run again" if cell.key in again else state
