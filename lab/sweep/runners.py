"""What runs a cell: `migrate`, a real migration by two agents, and whatever is added to `RUNNERS`.

A runner says which options its cells may have (a model that knows all those of a migration), and
how one is run. Its function may be called in any process that has the package installed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from common.config import MigrationConfig
from common.errors import UsageError
from common.status import Status
from lab.pair import PairResult


@dataclass(frozen=True, slots=True)
class Ran:
    """How a cell ended. result: None if the user cancelled it, so that it counts as never begun.

    interrupted: a signal came while it ran, perhaps too late to stop it.
    """

    result: PairResult | None
    interrupted: bool = False


RunCell = Callable[[MigrationConfig, Path | None, Callable[[Status], None]], Ran]


@dataclass(frozen=True, slots=True)
class Runner:
    """options: of its cells. run: one cell; takes its configuration, a folder for logs, and who is
    told of the present moment. It raises nothing: a cell that fails is a result.
    """

    name: str
    options: type[MigrationConfig]
    run: RunCell


def _migrate(config: MigrationConfig, log_dir: Path | None, show: Callable[[Status], None]) -> Ran:
    from lab.series import run_once

    result, interrupted = run_once(config, log_dir, show)
    return Ran(result, interrupted)


RUNNERS: Final = {runner.name: runner for runner in (Runner("migrate", MigrationConfig, _migrate),)}


def runner_named(name: str) -> Runner:
    """Raises `UsageError`."""
    if name not in RUNNERS:
        raise UsageError(f"runner: unknown {name!r}, expected one of {', '.join(RUNNERS)}")
    return RUNNERS[name]
