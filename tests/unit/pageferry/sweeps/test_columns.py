"""The flat row: names that stay, a unit in each, nothing twice."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from pageferry.sweeps.columns import (
    Column,
    column_of,
    option_columns,
    option_row,
    result_columns,
    result_row,
    value_text,
)
from pageferry.sweeps.parquet import CELL_COLUMNS
from pageferry.sweeps.settings import MigrateCell
from tests.support.every_report import full_report
from tests.support.plain_reports import report


def test_a_column_has_the_unit_in_its_name() -> None:
    names = {column.name: column.kind for column in [*option_columns(), *result_columns()]}
    expected = {
        "strategy": "string",
        "memory_bytes": "int64",
        "max_bandwidth_Bps": "float64",
        "dirty_limit_Bps": "float64",
        "timeout_s": "float64",
        "warmup_s": "float64",
        "low": "float64",
        "verify": "bool",
        "inject": "string",
        "workload_rate_Bps": "float64",
        "workload_working_set": "string",
        "workload_lines": "int64",
        "workload_think_s": "float64",
        "downtime_ms": "float64",
        "bytes_on_wire": "int64",
        "postcopy_fault_latency_us_p99": "float64",
        "oracle_least_bytes": "int64",
        "cpu_s_source": "float64",
        "guest_runs_at": "string",
        "downtime_last_pages_ms": "float64",
        "verified": "bool",
        "path": "int64",
        "dirty_rate_Bps": "float64",
    }
    assert {name: names.get(name) for name in expected} == expected


def test_no_name_twice() -> None:
    found = Counter(c.name for c in [*CELL_COLUMNS, *option_columns(), *result_columns()])
    assert [name for name, count in found.items() if count > 1] == []


def test_a_row_has_exactly_the_columns() -> None:
    assert list(option_row(MigrateCell())) == [column.name for column in option_columns()]
    names = {column.name for column in result_columns()}
    assert set(result_row(full_report())) == names
    assert set(result_row(report())) <= names
    kinds: dict[str, Any] = {"float64": (float, int), "int64": int, "bool": bool, "string": str}
    row = result_row(full_report())
    for column in result_columns():
        value = row[column.name]
        assert value is None or isinstance(value, kinds[column.kind]), column
    assert row["guest_slowdown"] is not None
    assert row["rounds"] == len(full_report().rounds)


def test_what_a_row_says() -> None:
    config = MigrateCell.model_validate(
        {"workload": "zipf:working-set=2MiB,rate=max", "max_bandwidth": "800mbit", "cache": 0}
    )
    row = option_row(config)
    assert row["workload_name"] == "zipf"
    assert row["workload_working_set"] == "2MiB"
    assert row["workload_rate_Bps"] == float("inf")
    assert row["workload_skew"] == 0.99
    assert row["workload_ticks"] is None
    assert row["max_bandwidth_Bps"] == 1e8
    assert row["timeout_s"] is None


def test_what_json_has_no_number_for_is_null() -> None:
    assert result_row(report(setup_ms=float("nan")))["setup_ms"] is None


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("max-bandwidth", 1e8, "100MB/s"),
        ("max-bandwidth", float("inf"), "unlimited"),
        ("cache", 2**22, "4MiB"),
        ("low", 0.1, "10%"),
        ("timeout", None, "none"),
        ("verify", True, "on"),
        ("inject", "", "none"),
        ("workload.rate", 4e7, "40MB/s"),
        ("workload.think", 0.5, "500ms"),
        ("workload.skew", 0.99, "0.99"),
        ("workload.working-set", "50%", "50%"),
        ("delay", 0.01, "0.01"),  # an option of another runner
    ],
)
def test_a_value_as_a_person_writes_it(option: str, value: object, text: str) -> None:
    assert value_text(option, value) == text  # type: ignore[arg-type]


def test_columns_of_what_plans_name() -> None:
    assert column_of("cache-line") == Column("cache_line_bytes", "int64")
    assert column_of("workload.name") == Column("workload_name", "string")
    for wrong in ("cache_line", "colour", "workload.colour", "cache.size"):
        with pytest.raises(KeyError):
            column_of(wrong)
