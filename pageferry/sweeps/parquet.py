"""Results as one Parquet file: a row per cell, the columns of `columns`, and the plan's axes."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pageferry.common.errors import UsageError
from pageferry.common.files.input_files import parse_json, read_file
from pageferry.sweeps.columns import Column, option_columns, option_row, result_columns
from pageferry.sweeps.ledger import Manifest, Record, check_axes, report_file
from pageferry.sweeps.plan import one_line
from pageferry.sweeps.runners import Runner, runner_named

# Of the cell itself; its options and results follow.
CELL_COLUMNS: Final = (
    Column("cell", "string"),
    Column("cell_index", "int64"),
    Column("label", "string"),
    Column("repeat", "int64"),
    Column("runner", "string"),
    Column("exit_code", "int64"),
    Column("cell_error", "string"),
    Column("started", "string"),
    Column("cell_s", "float64"),
    Column("worker", "string"),
    Column("attempts", "int64"),
    Column("python", "string"),
    Column("numba", "string"),
    Column("numpy", "string"),
    Column("report", "string"),
)
VERSIONS: Final = ("python", "numba", "numpy")  # missing in results of earlier versions
_META: Final = b"pageferry"
_MOST_BYTES: Final = 1 << 28
_MOST_ROWS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Results:
    """The rows of finished cells.

    Attributes:
        table: A `pyarrow.Table`.
        name: Of the plan: its file's name without the ending.
        runner: The runner's name.
        axes: The options that vary.
        of: How many cells the plan has.
    """

    table: Any
    name: str
    runner: str
    axes: tuple[str, ...]
    of: int


def make_cell_rows(
    manifest: Manifest, records: Mapping[str, Record], runner: Runner
) -> list[dict[str, Any]]:
    """Make a row for each cell that has finished.

    Args:
        manifest: The plan as it was run.
        records: What has finished, by key.
        runner: Reads the records' options.

    Returns:
        Values by column, in the plan's order of cells.
    """
    rows = []
    for index, cell in enumerate(manifest.cells):
        record = records.get(cell.key)
        if record is None:
            continue
        config = runner.options.model_validate(record.settings)
        own = {
            "cell": cell.key,
            "cell_index": index,
            "label": cell.label,
            "repeat": cell.repeat,
            "runner": record.runner,
            "exit_code": record.exit_code,
            "cell_error": record.error,
            "started": record.started,
            "cell_s": record.seconds,
            "worker": record.worker,
            "attempts": record.attempts,
            **{name: record.versions.get(name) for name in VERSIONS},
            "report": report_file(cell.key) if record.has_report else None,
            "outcome": record.outcome,
        }
        rows.append(record.results | own | option_row(config))
    return rows


def make_results(manifest: Manifest, records: Mapping[str, Record], runner: Runner) -> Results:
    """Make the table of what has finished.

    Args:
        manifest: The plan as it was run.
        records: What has finished, by key.
        runner: Has the options, and so decides which columns there are.

    Returns:
        The results; everything but the rows is in the table's metadata, too.
    """
    import pyarrow as pa

    columns = [*CELL_COLUMNS, *option_columns(runner.options), *result_columns(runner.options)]
    rows = make_cell_rows(manifest, records, runner)
    about = {
        "name": manifest.name,
        "runner": runner.name,
        "axes": manifest.axes,
        "cells": len(manifest.cells),
    }
    schema = pa.schema(
        [(column.name, pa.type_for_alias(column.kind)) for column in columns],
        metadata={_META: json.dumps(about).encode()},
    )
    table = pa.Table.from_pylist(rows, schema=schema)
    return Results(table, manifest.name, runner.name, manifest.axes, len(manifest.cells))


def to_parquet(results: Results) -> bytes:
    """Write results as a Parquet file.

    Args:
        results: What `make_results` has made.

    Returns:
        The content of the file.
    """
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(results.table, out)
    return out.getvalue()


def read_parquet(file: Path) -> Results:
    """Read a Parquet file of results.

    Args:
        file: Written by `sweep`, perhaps by an earlier version; at most 256 MiB.

    Returns:
        The results.

    Raises:
        UsageError: It can't be read, is not ours, or has too many rows or a wrong column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = read_file(file, _MOST_BYTES)
    try:
        opened = pq.ParquetFile(io.BytesIO(data))
        if opened.metadata.num_rows > _MOST_ROWS:
            raise UsageError(f"{file} has too many rows: expected at most {_MOST_ROWS:,}")
        table = opened.read()
    except (pa.ArrowException, OSError) as error:  # OSError: what it calls a page that is damaged
        raise UsageError(f"{file} is no Parquet file: {one_line(str(error))}") from None
    about = _about((table.schema.metadata or {}).get(_META, b""), str(file))
    if about is None or not _has(table.column_names):
        raise UsageError(f"{file} has no results of a sweep: expected what pageferry sweep writes")
    runner = _runner(about["runner"], str(file))
    check_axes(about["axes"], runner, str(file))
    _check_kinds(table.schema, runner, str(file))
    return Results(table, about["name"], about["runner"], tuple(about["axes"]), about["cells"])


def _about(data: bytes, file: str) -> dict[str, Any] | None:
    try:
        about = parse_json(data, file)
    except UsageError:
        return None
    kinds = {"name": str, "runner": str, "axes": list, "cells": int}
    if not isinstance(about, dict):
        return None
    right = all(isinstance(about.get(key), kind) for key, kind in kinds.items())
    return about if right and all(isinstance(axis, str) for axis in about["axes"]) else None


def _runner(name: str, file: str) -> Runner:
    try:
        return runner_named(name)
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from None


def _check_kinds(schema: Any, runner: Runner, file: str) -> None:
    """Refuse a column of ours that has another type. Raises `UsageError`."""
    import pyarrow as pa

    ours = [*CELL_COLUMNS, *option_columns(runner.options), *result_columns(runner.options)]
    for column in ours:
        place = schema.get_field_index(column.name)
        if place >= 0 and schema.field(place).type != pa.type_for_alias(column.kind):
            found = schema.field(place).type
            raise UsageError(f"{file}: column {column.name} has {found}: expected {column.kind}")


def _has(names: Sequence[str]) -> bool:
    needed = {column.name for column in CELL_COLUMNS if column.name not in VERSIONS} | {
        "outcome",
        "strategy",
        "verified",
    }
    return needed <= set(names)
