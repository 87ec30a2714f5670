"""`python -m pageferry.sweeps.cell`: one cell in a process of its own, for a worker of a cluster.

A worker runs tasks in threads, and a migration needs the main thread, which gets the signals. What
is to be run comes as JSON on standard input (`Order`), what became of it goes to standard output
(`CellOutcome`). SIGINT cancels; the death of the worker does, too.
"""

from __future__ import annotations

import sys

from pydantic import BaseModel, ConfigDict

from pageferry.common.errors import EXIT_CANCELLED, EXIT_OK, PageferryError
from pageferry.common.process.entry import start
from pageferry.common.process.status import Status, die_with_parent
from pageferry.common.report.schema import Report
from pageferry.pair import PairResult
from pageferry.runs.series import Signals
from pageferry.sweeps.environment import environment


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Order(_Message):
    """A cell that is to be run.

    Attributes:
        token: Names this order, so that it can be cancelled.
        runner: The runner's name.
        options: Texts by option name with dashes, as in a record.
    """

    token: str
    runner: str
    options: dict[str, str | list[str]]


class CellOutcome(_Message):
    """What became of a cell.

    Attributes:
        cancelled: Whether it was; then there is nothing else.
        exit_code: 0, or how it failed.
        error: What went wrong, in one line; None where nothing did.
        report: None where it failed without one.
        versions: What it was run with.
    """

    cancelled: bool = False
    exit_code: int = EXIT_OK
    error: str | None = None
    report: Report | None = None
    versions: dict[str, str] = {}

    @property
    def result(self) -> PairResult | None:
        """How the migration ended; None if it was cancelled."""
        return None if self.cancelled else PairResult(self.report, self.exit_code, self.error)


def run_cell(order: Order) -> CellOutcome:
    """Run a cell in this process. Must be called in the main thread.

    Args:
        order: The cell. SIGINT and its like cancel it.

    Returns:
        How it ended, whatever went wrong with it.
    """
    from pageferry.sweeps.runners import runner_named

    def ignore(_status: Status) -> None:
        """Ignore a status: nobody looks."""

    versions = dict(environment())
    with Signals() as signals:
        try:
            runner = runner_named(order.runner)
            options = {name.replace("-", "_"): text for name, text in order.options.items()}
            config = runner.options.model_validate(options)
            if signals.seen:
                return CellOutcome(cancelled=True, exit_code=EXIT_CANCELLED)
            result = runner.run(config, None, ignore, signals).result
        except PageferryError as error:
            return CellOutcome(exit_code=error.exit_code, error=str(error), versions=versions)
    if result is None:
        return CellOutcome(cancelled=True, exit_code=EXIT_CANCELLED)
    return CellOutcome(
        exit_code=result.exit_code, error=result.error, report=result.report, versions=versions
    )


def _main() -> int:
    die_with_parent(int(sys.argv[1]))
    order = Order.model_validate_json(sys.stdin.buffer.read())
    sys.stdout.write(run_cell(order).model_dump_json())
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(start(_main))
