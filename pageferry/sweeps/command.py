"""`pageferry sweep PLAN.toml`: run what has not been run yet, and write the results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter
from pydantic import Field

from pageferry.common.command_line.run import tell
from pageferry.common.errors import (
    EXIT_CANCELLED,
    EXIT_FAILED,
    EXIT_LIMIT_MISSED,
    EXIT_OK,
    EXIT_USAGE,
    UsageError,
)
from pageferry.common.files.report_files import need_folder
from pageferry.common.process.notices import complain
from pageferry.common.process.status import StatusPipe
from pageferry.common.terminal.progress import ProgressOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pageferry.runs.series import Signals
    from pageferry.sweeps.cells import Cell
    from pageferry.sweeps.ledger import Folder, Record
    from pageferry.sweeps.progress import SweepView
    from pageferry.sweeps.runners import Runner

_MOST_LISTED: Final = 10  # lines about what went wrong


class SweepOptions(ProgressOptions):
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
    options: Annotated[SweepOptions | None, Parameter(name="*")] = None,
    status_fd: Annotated[int | None, Parameter(show=False)] = None,
) -> int:
    """Run a grid of migrations, one after another, into one folder.

    A plan has fixed options, axes, and a number of repeats. Each combination is a cell: a real
    migration, with a shaped network of its own where the plan has net, or with --runner simulate
    one in virtual time. A cell that fails is a result. Whatever ends the sweep, the same command
    goes on where it was. Then look at it: pageferry sweep show FOLDER.
    """
    from pageferry.common.command_line.libraries import require
    from pageferry.sweeps.cells import axes_of, expand
    from pageferry.sweeps.plan import read_plan

    options = options or SweepOptions()
    found = read_plan(plan)
    runner = _runner(found.runner, options.runner, plan)
    cells = expand(found, runner, str(plan))
    chosen = _chosen(cells, options.filter, runner)
    other = "" if runner.name == found.runner else f"-{runner.name}"
    folder = options.output or plan.parent / f"{found.output or plan.stem}{other}"
    if folder.resolve() == plan.resolve():
        raise UsageError(f"{plan} is where its results would go: expected --output FOLDER")
    tell((cell.config for cell in chosen), quiet=options.quiet)
    if options.dry_run:
        return _list(cells, chosen, folder, runner, retry_failed=options.retry_failed)
    if options.log_dir is not None and not runner.has_logs:
        raise UsageError(f"--log-dir: runner {runner.name} writes no logs, its events are reported")
    require("pageferry sweep", "pyarrow")
    if options.scheduler is not None:
        require("--scheduler", "distributed")
        if options.log_dir is not None:
            raise UsageError("--log-dir is for cells that are run here: not with --scheduler")
    if options.log_dir is not None:
        need_folder(options.log_dir, "--log-dir")
    _warn(chosen)
    pipe = StatusPipe(status_fd) if status_fd is not None else None
    return _Sweep(plan.stem, axes_of(found), cells, runner, options, pipe).run(folder, chosen)


def _warn(cells: Sequence[Cell]) -> None:
    """Of cells that have a limit which their strategies do not look at."""
    from pageferry.common.report.limits import DOWNTIME, given, looks_at_it, say, unlooked

    limited = [each.config for each in cells if DOWNTIME in given(each.config)]
    blind = [each for each in limited if not looks_at_it(each.strategy)]
    say(unlooked([each.strategy for each in blind], [each.downtime_limit for each in blind]))


def _runner(name: str, instead: str | None, file: Path) -> Runner:
    from pageferry.sweeps.runners import runner_named

    try:
        planned = runner_named(name)
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from None
    try:
        return planned if instead is None else runner_named(instead)
    except UsageError as error:
        raise UsageError(f"--{error}") from None


def _chosen(cells: list[Cell], text: str | None, runner: Runner) -> list[Cell]:
    from pageferry.sweeps.choice import parse_choice

    if text is None:
        return cells
    choice = parse_choice(text, runner)
    chosen = [cell for cell in cells if choice(cell.row)]
    if not chosen:
        raise UsageError(f"--filter: none of {len(cells)} cells is like {text}")
    return chosen


class _Sweep:
    """A plan's cells, and how they are run into a folder."""

    def __init__(
        self,
        name: str,
        axes: Sequence[str],
        cells: Sequence[Cell],
        runner: Runner,
        options: SweepOptions,
        pipe: StatusPipe | None,
    ) -> None:
        from pageferry.sweeps.ledger import Manifest, planned

        self._cells = cells
        self._runner = runner
        self._options = options
        self._pipe = pipe
        self._manifest = Manifest(
            name=name, runner=runner.name, axes=tuple(axes), cells=planned(cells)
        )

    def run(self, path: Path, chosen: Sequence[Cell]) -> int:
        """What of these is pending; the exit code."""
        from pageferry.runs.series import Signals
        from pageferry.sweeps.ledger import Folder, pending
        from pageferry.sweeps.progress import SweepView

        with Signals() as signals, Folder(path) as folder:
            folder.describe(self._manifest)
            records, damaged = folder.records((cell.key for cell in self._cells), self._runner)
            for line in damaged[:_MOST_LISTED]:
                complain(f"{line}: its cell is run again")
            todo = pending(chosen, records, retry_failed=self._options.retry_failed)
            again = {cell.key for cell in todo}
            done = [(c, records[c.key]) for c in self._cells if c.key in records.keys() - again]
            interrupted = False
            try:
                if todo:
                    with SweepView(todo, done, wish=self._options.wish, pipe=self._pipe) as view:
                        interrupted = self._run(todo, folder, view, signals)
            finally:
                records = self._write(folder)
        self._say(path, chosen, records, interrupted=interrupted)
        if interrupted:
            return EXIT_CANCELLED
        return _exit_code(records, enforce=self._options.enforce)

    def _run(self, todo: list[Cell], folder: Folder, view: SweepView, signals: Signals) -> bool:
        """Whether it was interrupted."""
        if self._options.scheduler is None:
            from pageferry.sweeps.driver import run_here

            self._runner.check([cell.config for cell in todo])
            logs = self._options.log_dir
            return run_here(
                todo, runner=self._runner, store=folder, watcher=view, signals=signals, log_dir=logs
            )
        from pageferry.sweeps.cluster import Cluster, connected

        with connected(self._options.scheduler) as client:
            cluster = Cluster(
                client, runner=self._runner, store=folder, watcher=view, signals=signals
            )
            return cluster.run(todo)

    def _write(self, folder: Folder) -> dict[str, Record]:
        """The Parquet file of all that has finished, by this sweep or an earlier one."""
        from pageferry.sweeps.ledger import RESULTS
        from pageferry.sweeps.parquet import make_results, to_parquet

        records, _ = folder.records((cell.key for cell in self._cells), self._runner)
        folder.write(RESULTS, to_parquet(make_results(self._manifest, records, self._runner)))
        return records

    def _say(
        self,
        path: Path,
        chosen: Sequence[Cell],
        records: Mapping[str, Record],
        *,
        interrupted: bool,
    ) -> None:
        finished = f"{len(records)} of {len(self._cells)} cells have finished"
        if interrupted:
            complain(f"cancelled: {finished}, they are kept; the same command goes on from there")
            return
        failed = [record for record in records.values() if record.failed]
        words = f"{finished}, {len(failed)} of them failed" if failed else finished
        print(f"{path}: {words}")
        said = [records[cell.key] for cell in chosen if records[cell.key].failed]
        for record in said[:_MOST_LISTED]:
            complain(f"{record.label}: {record.error or f'exit code {record.exit_code}'}")
        if len(said) > _MOST_LISTED:
            complain(f"and {len(said) - _MOST_LISTED} more: cell_error in pageferry sweep show")
        missed = sum(_missed(record) for record in records.values())
        if missed:
            print(f"{missed} of them missed a limit: limits_missed in pageferry sweep show")


def _exit_code(records: Mapping[str, Record], *, enforce: bool = False) -> int:
    """As of any series: 0 if all is well, else the worst. 2 only where no cell could be run."""
    from pageferry.runs.series import Attempt, worst_exit_code

    attempts = [Attempt(0, None, each.exit_code, each.error) for each in records.values()]
    code = worst_exit_code(attempts)
    some = any(attempt.exit_code != EXIT_USAGE for attempt in attempts)
    if code == EXIT_OK and enforce and any(_missed(each) for each in records.values()):
        return EXIT_LIMIT_MISSED
    return EXIT_FAILED if code == EXIT_USAGE and some else code


def _missed(record: Record) -> bool:
    return bool(record.results.get("limits_missed"))


def _list(
    cells: list[Cell], chosen: list[Cell], folder: Path, runner: Runner, *, retry_failed: bool
) -> int:
    """`--dry-run`: what would be run, and how long that would take."""
    from pageferry.runs.tables import Sheet, print_text, wide_console
    from pageferry.sweeps.ledger import pending, read_records
    from pageferry.sweeps.progress import TimeLeft, rough

    records, _ = read_records(folder, (cell.key for cell in cells), runner)
    todo = pending(chosen, records, retry_failed=retry_failed)
    again = {cell.key for cell in todo}
    rows = tuple((cell.key, cell.label, _state(cell, records, again)) for cell in chosen)
    console = wide_console()
    Sheet(str(folder), ("cell", "options", "state"), rows, left=3).print(console)
    done = [(cell, records[cell.key]) for cell in cells if cell.key in records]
    seconds = rough(TimeLeft.of(todo, done).seconds())
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
