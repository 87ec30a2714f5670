"""What `sweep show` computes from results: SQL for DuckDB, and its answers side by side.

Figures are of cells that moved their guest whole: completed, and not found different at the
destination. Repeats of one combination are a group with a median, a least and a greatest value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pageferry.common.capacity.cpus import usable_cpus
from pageferry.common.capacity.memory import least
from pageferry.common.errors import UsageError
from pageferry.runs.rows import Spread
from pageferry.sweeps.cell_filter import CellFilter
from pageferry.sweeps.columns import Scalar, column_of, parameter_columns, value_text
from pageferry.sweeps.parquet import Results
from pageferry.sweeps.plan import one_line
from pageferry.sweeps.runners import Runner

_A_QUERY: Final = "one SELECT, as in SELECT * FROM results"
_QUERIES: Final = ("SELECT", "EXPLAIN", "MULTI", "CALL", "PRAGMA")  # MULTI: PIVOT, in two steps
_LEAST_MEMORY: Final = 64 * 2**20
COMPETITORS: Final = "strategy"
# Cells that have figures.
GOOD: Final = "outcome = 'completed' AND verified IS DISTINCT FROM false"


@dataclass(frozen=True, slots=True)
class QueryResult:
    """A table as DuckDB returns it.

    Attributes:
        columns: Their names.
        rows: Each with a value for each column.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True)
class CellGroup:
    """The cells of one combination.

    Attributes:
        values: One for each axis.
        cells: How many there are.
        good: How many of them have figures.
        figures: By column name; None where no good cell has a value.
    """

    values: tuple[Scalar, ...]
    cells: int
    good: int
    figures: dict[str, Spread | None]


def quoted(name: str) -> str:
    """Quote a column's name for SQL.

    Args:
        name: Any text; quotes in it are doubled.

    Returns:
        A delimited identifier.
    """
    return '"' + name.replace('"', '""') + '"'


def _within_limits() -> dict[str, Any]:
    """Configure DuckDB, which would take all processors and 80 % of the machine's memory."""
    found: dict[str, Any] = {"threads": usable_cpus().count}
    room = least()
    if room is not None:
        found["memory_limit"] = f"{max(room.free * 4 // 5, _LEAST_MEMORY) // 2**20}MiB"
    return found


class Query:
    """Results in DuckDB, as the table `results`.

    Args:
        results: Of one sweep.
        runner: Its options are the possible axes.
        choice: Keeps the rows that it accepts; None keeps all.
    """

    def __init__(self, results: Results, runner: Runner, choice: CellFilter | None = None) -> None:
        import duckdb

        table = results.table
        if choice is not None:
            keep = [choice(row) for row in table.to_pylist()]
            table = table.filter(keep)
        self.axes = results.axes
        self._kinds = {field.name: str(field.type) for field in table.schema}
        self._columns = {axis: self._named(axis, runner) for axis in self.axes}
        self.count = table.num_rows
        self._database = duckdb.connect(":memory:", config=_within_limits())
        # Missing extensions are not fetched from the network.
        self._database.execute("SET autoinstall_known_extensions = false")
        self._database.register("results", table)

    def _named(self, axis: str, runner: Runner) -> str:
        """Find the column of an axis; results of an earlier version may have another one."""
        head, dot, key = axis.partition(".")
        names = [column_of(axis, runner.options).name]
        if dot and head == "workload" and key != "name":
            names = [column.name for column in parameter_columns(key)]
        return next((name for name in names if name in self._kinds), names[0])

    def column(self, axis: str) -> str:
        """Return the column of an axis.

        Args:
            axis: One of `axes`.

        Returns:
            The column's name, not quoted.

        Raises:
            KeyError: It is not in `axes`.
        """
        return self._columns[axis]

    def ask(self, sql: str) -> QueryResult:
        """Run one query.

        Args:
            sql: One SELECT of the table `results`, or EXPLAIN, PIVOT, CALL or PRAGMA.

        Returns:
            All of its rows.

        Raises:
            UsageError: It is not a single query, or DuckDB can't run it.
        """
        import duckdb

        try:
            statements = self._database.extract_statements(sql)
            if len(statements) != 1:
                found = "no statement" if not statements else f"{len(statements)} statements"
                raise UsageError(f"--sql: {one_line(repr(sql))} has {found}: expected {_A_QUERY}")
            if statements[0].type.name not in _QUERIES:
                raise UsageError(f"--sql: {one_line(repr(sql))} is no query: expected {_A_QUERY}")
            answer = self._database.execute(statements[0])
            columns = tuple(each[0] for each in answer.description or ())
            return QueryResult(columns, tuple(answer.fetchall()))
        except duckdb.Error as error:
            raise UsageError(f"--sql: {one_line(str(error))}") from None

    def has(self, column: str) -> bool:
        """Tell whether there is a column: results of an earlier version may have fewer.

        Args:
            column: Its name, not quoted.

        Returns:
            True if the results have it.
        """
        return column in self._kinds

    def check_figure(self, name: str, option: str) -> str:
        """Refuse a column that has no numbers.

        Args:
            name: The column that the user has chosen.
            option: The flag that names it, for the complaint.

        Returns:
            The same name.

        Raises:
            UsageError: There is no such column, or it has no numbers.
        """
        if self._kinds.get(name) not in ("int64", "double", "float"):
            numbers = ("total_time_ms", "downtime_ms", "bytes_on_wire", "guest_slowdown")
            raise UsageError(
                f"{option}: {one_line(repr(name))} is no figure of the results: expected"
                f" {', '.join(numbers)} or another column of numbers"
            )
        return name

    def groups(self, figures: Sequence[str], axes: Sequence[str] | None = None) -> list[CellGroup]:
        """Group the rows by combination.

        Args:
            figures: Columns of numbers, each summarised over the good cells of a group.
            axes: The axes that tell groups apart; None takes all, an empty sequence makes one
                group.

        Returns:
            One group for each combination that occurs, in the plan's order.
        """
        axes = self.axes if axes is None else axes
        names = [quoted(self.column(axis)) for axis in axes]
        parts = [*names, "count(*)", f"count(*) FILTER ({GOOD})"]
        for figure in figures:
            column = quoted(figure)
            parts += [f"{of}({column}) FILTER ({GOOD})" for of in ("median", "min", "max")]
        by = f"GROUP BY {', '.join(names)}" if names else ""
        rows = self.ask(
            f"SELECT {', '.join(parts)} FROM results {by} ORDER BY min(cell_index)"  # noqa: S608
        ).rows
        width = len(axes)
        return [
            CellGroup(
                values=row[:width],
                cells=row[width],
                good=row[width + 1],
                figures={
                    figure: spread_of(row[width + 2 + 3 * at : width + 5 + 3 * at])
                    for at, figure in enumerate(figures)
                },
            )
            for row in rows
            if row[width]
        ]

    def values(self, axis: str) -> list[Scalar]:
        """List the values that an axis has in these rows.

        Args:
            axis: One of `axes`.

        Returns:
            Numbers in ascending order, also if they are texts of digits; words in the plan's order.
        """
        column = quoted(self.column(axis))
        rows = self.ask(f"SELECT {column} FROM results GROUP BY 1 ORDER BY min(cell_index)").rows  # noqa: S608
        found = [row[0] for row in rows]
        if all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in found):
            found.sort()
        elif all(isinstance(each, str) and each.isdigit() for each in found):
            found.sort(key=int)
        return found

    def varied(self) -> list[str]:
        """List the axes on which these rows differ.

        Returns:
            Some of `axes`, in their order.
        """
        return [axis for axis in self.axes if len(self.values(axis)) > 1]


def spread_of(values: Sequence[Any]) -> Spread | None:
    """Read a median, a least and a greatest value from a row.

    Args:
        values: These three; DuckDB has all or none of them.

    Returns:
        The spread; None where there is none.
    """
    return None if values[0] is None else Spread(*(float(value) for value in values))


def label(axes: Sequence[str], values: Sequence[Scalar]) -> str:
    """Write values beside their options: `cache = 4MiB, workload.rate = 40MB/s`.

    Args:
        axes: The options, as a plan names them.
        values: One for each of them, in the unit of its column.

    Returns:
        One line; empty without axes.
    """
    return ", ".join(f"{a} = {value_text(a, v)}" for a, v in zip(axes, values, strict=True))
