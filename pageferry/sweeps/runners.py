"""What runs a cell: `migrate`, a real migration by two agents, or `simulate`, one in virtual time.

A runner defines which options its cells may have (a model that knows all those of a migration), and
how one is run. Its function may be called in any process that has the package installed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pageferry.common.capacity.agents import check_some_pair, pair_bytes
from pageferry.common.command_line.invocation import stamp_report
from pageferry.common.errors import EXIT_OK, UsageError
from pageferry.common.process.status import Status
from pageferry.pair import PairResult
from pageferry.runs.series import Signals
from pageferry.runs.simulation import alone
from pageferry.sweeps.plan import one_line
from pageferry.sweeps.settings import CellOptions, MigrateCell, SimulateCell


@dataclass(frozen=True, slots=True)
class Ran:
    """How a cell ended.

    Attributes:
        result: None if the user cancelled it, so that it counts as never begun.
        interrupted: Whether a signal came while it ran, perhaps too late to stop it.
    """

    result: PairResult | None
    interrupted: bool = False


RunCell = Callable[[Any, Path | None, Callable[[Status], None], Signals], Ran]


@dataclass(frozen=True, slots=True)
class Runner:
    """A way to run cells.

    Attributes:
        name: As a plan and `--runner` name it.
        options: The model of its cells' options.
        run: Runs one cell. Takes the cell's options, a folder for logs (None: no logs), a callback
            for statuses, and the entered `Signals`. A cell that can't be begun raises
            `PageferryError`, any other failure is a result.
        has_logs: Whether it can write logs.
        check: Called with the options of cells that are to be run here; raises `UsageError` where
            there is no room for any of them.
        touches: Computes the bytes of memory that a cell takes.
    """

    name: str
    options: type[CellOptions]
    run: RunCell
    has_logs: bool = True
    check: Callable[[Sequence[Any]], None] = lambda _cells: None
    touches: Callable[[Any], int] = lambda _cell: 0


def _migrate(
    cell: MigrateCell, log_dir: Path | None, show: Callable[[Status], None], signals: Signals
) -> Ran:
    from pageferry.runs.series import run_once

    result, interrupted = run_once(cell.migration, log_dir, show, net=cell.network, signals=signals)
    return Ran(result, interrupted)


def _both_agents(cell: MigrateCell) -> int:
    return pair_bytes(cell.migration)


def _room_for_agents(cells: Sequence[MigrateCell]) -> None:
    check_some_pair(cell.migration for cell in cells)


def _simulate(
    cell: SimulateCell, _log_dir: Path | None, show: Callable[[Status], None], _signals: Signals
) -> Ran:
    """Simulate a migration. A signal ends the sweep after it: it is soon over."""
    from pageferry.sim.conditions import simulated_conditions
    from pageferry.sim.reporting import make_simulated_report, play

    show(Status(phase="simulating"))
    config = cell.migration
    under = simulated_conditions(config, cell.simulated_link, cell.guest_speed)
    about = {"link": cell.about_link, "guest_speed": cell.guest_speed}
    report = make_simulated_report(play(config, under), about)
    stamp_report(report, alone(config, about))
    return Ran(PairResult(report, EXIT_OK, None))


RUNNERS: Final = {
    runner.name: runner
    for runner in (
        Runner("migrate", MigrateCell, _migrate, check=_room_for_agents, touches=_both_agents),
        Runner("simulate", SimulateCell, _simulate, has_logs=False),
    )
}


def runner_named(name: str) -> Runner:
    """Find a runner.

    Args:
        name: As a plan or the user wrote it.

    Returns:
        The runner of that name.

    Raises:
        UsageError: There is no such runner.
    """
    if name not in RUNNERS:
        raise UsageError(
            f"runner: unknown {one_line(repr(name))}, expected one of {', '.join(RUNNERS)}"
        )
    return RUNNERS[name]
