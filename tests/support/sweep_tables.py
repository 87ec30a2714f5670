"""Plans, and sweeps that were never run: records of reports that a function makes up."""

from __future__ import annotations

from collections.abc import Callable

from pageferry.common.report.schema import Report
from pageferry.pair import PairResult
from pageferry.sweeps.cell_filter import parse_filter
from pageferry.sweeps.cells import Cell, axes_of, make_cells
from pageferry.sweeps.driver import Clock, store_outcome
from pageferry.sweeps.ledger import Manifest, Record, planned
from pageferry.sweeps.parquet import Results, make_results
from pageferry.sweeps.plan import SweepPlan, parse_plan
from pageferry.sweeps.query import Query
from pageferry.sweeps.runners import RUNNERS
from tests.support.plain_reports import report

MIGRATE = RUNNERS["migrate"]
PLAN = """
[options]
memory = "4MiB"
workload = "uniform:working-set=50%"
[grid]
strategy = ["pre-copy", "stop-and-copy"]
max-bandwidth = ["40MB/s", "unlimited"]
workload.rate = ["4MB/s", "80MB/s"]
"""


def plan(text: str) -> SweepPlan:
    return parse_plan(text.encode(), "plan.toml")


def cells(text: str) -> list[Cell]:
    return make_cells(plan(text), MIGRATE, "plan.toml")


class Kept:
    """A store in memory, and who watches; a cell that is stored twice is a finding."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.reports: dict[str, str | None] = {}
        self.said: list[str] = []

    def save(self, record: Record, report: str | None) -> None:
        assert record.key not in self.records
        self.records[record.key] = record
        self.reports[record.key] = report

    def began(self, cell: Cell, side_by_side: int = 1) -> None:
        del cell, side_by_side

    def show(self, *_: object) -> None:
        """Nobody looks."""

    def finished(self, *_: object) -> None:
        """Nobody is told."""

    def say(self, line: str) -> None:
        self.said.append(line)


def moved(cell: Cell) -> Report:
    """Downtime is 1 ms for each MB/s of dirty rate, but 50 ms with stop-and-copy."""
    rate = cell.row["workload_rate_Bps"]
    assert isinstance(rate, float)
    downtime_ms = 50.0 if cell.config.strategy == "stop-and-copy" else rate / 1e6
    return report(strategy=cell.config.strategy, downtime_ms=downtime_ms + cell.repeat)


def run(text: str, become: Callable[[Cell], Report | None] = moved) -> tuple[Results, Kept]:
    """Every cell of a plan; None is one that has failed."""
    found = cells(text)
    kept = Kept()
    for cell in found:
        made = become(cell)
        result = PairResult(made, 0, None) if made else PairResult(None, 1, "it broke")
        store_outcome(
            cell, result, Clock.now(), runner=MIGRATE, store=kept, watcher=kept, worker="here"
        )
    manifest = Manifest(
        name="made", runner="migrate", axes=tuple(axes_of(plan(text))), cells=planned(found)
    )
    return make_results(manifest, kept.records, MIGRATE), kept


def query(
    text: str = PLAN,
    become: Callable[[Cell], Report | None] = moved,
    choice: str | None = None,
) -> Query:
    """The results of a plan in DuckDB, or those of them that `choice` accepts."""
    wanted = None if choice is None else parse_filter(choice, MIGRATE)
    return Query(run(text, become)[0], MIGRATE, wanted)
