"""A cell as a flat row: every option, every scalar of the report, each with its unit in its name.

Options come first: their own names with underscores, and the unit that they are written in
(`memory_bytes`, `max_bandwidth_Bps`, `warmup_s`; shares and counts have none), then the workload's
parameters (`workload_rate_Bps`) and what the link was asked to be (`net_delay_s`). Then come the
report's scalars; those of its parts have the part's name before them (`postcopy_faults`,
`net_rtt_ms`). What a cell does not have (a strategy without rounds, a workload without a rate) is
null. Pure: no pyarrow here.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal

from pydantic import BaseModel

from pageferry.common.config.model import MigrationConfig, value_words
from pageferry.common.report.schema import Report
from pageferry.common.report.sections.rounds import DowntimePart
from pageferry.common.report.slowdown import slowdown
from pageferry.common.units import format_rate, format_time
from pageferry.common.workload.options import Option
from pageferry.common.workload.registry import WORKLOADS, parse_workload
from pageferry.net import shape
from pageferry.sweeps.settings import CellOptions, MigrateCell

ColumnKind = Literal["int64", "float64", "bool", "string"]
Scalar = int | float | bool | str | None
Row = dict[str, Scalar]

_KINDS: Final[dict[type, ColumnKind]] = {
    bool: "bool",
    int: "int64",
    float: "float64",
    str: "string",
}
# How an option's formatter writes 1, and the ending of a column's name with that unit.
_UNITS: Final = {"1B": "_bytes", "1B/s": "_Bps", "1s": "_s"}
_NET_UNITS: Final = {"rate": "_Bps", "delay": "_s", "jitter": "_s", "queue": "_s"}
_DERIVED: Final[dict[str, ColumnKind]] = {
    "rounds": "int64",
    "drain_rounds": "int64",
    "dirty_rate_Bps": "float64",
    "bandwidth_Bps": "float64",
    "guest_slowdown": "float64",
    "limits_missed": "string",
    "host": "string",
    "dest_host": "string",
}
_PARTS: Final = {
    name: f"downtime_{name.replace(' ', '_')}_ms"
    for name in typing.get_args(DowntimePart.model_fields["name"].annotation)
}
_MOST_EXACT: Final = 2**53  # up to which a float is any whole number
_NOT_FLAT: Final = {"schema_version", "config"}  # the options' columns have it


@dataclass(frozen=True, slots=True)
class Column:
    """A column of results.

    Attributes:
        name: With the unit at its end, where it has one.
        kind: Its type, as pyarrow calls it.
    """

    name: str
    kind: ColumnKind

    def takes(self, value: object) -> bool:
        """Tell whether the column has room for a value.

        Args:
            value: Anything; None has room in any column.

        Returns:
            True if no information is lost: a float column takes whole numbers up to 2**53.
        """
        if value is None or self.kind == "string":
            return value is None or isinstance(value, str)
        if self.kind == "bool" or isinstance(value, bool):
            return self.kind == "bool" and isinstance(value, bool)
        if self.kind == "int64":
            return isinstance(value, int) and abs(value) < 2**63
        exact = isinstance(value, int) and abs(value) <= _MOST_EXACT
        return exact or isinstance(value, float)


def _members(annotation: Any) -> Iterator[Any]:
    """Yield the types of a union without None; of an annotation, what it annotates."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from _members(typing.get_args(annotation)[0])
    elif origin is types.UnionType or origin is typing.Union:
        for each in typing.get_args(annotation):
            yield from _members(each)
    elif origin is Literal:
        yield from {type(value) for value in typing.get_args(annotation)}
    elif annotation is not type(None):
        yield annotation


def _kind(annotation: Any) -> ColumnKind | None:
    """Return the column type for an annotation; None where it is not a scalar."""
    found = {_KINDS.get(each) for each in _members(annotation)}
    return found.pop() if len(found) == 1 else None


# -- options --------------------------------------------------------------------------------------


@cache
def option_column(name: str, model: type[MigrationConfig] = MigrateCell) -> Column:
    """Return the column of an option.

    Args:
        name: The field's name in the model, with underscores.
        model: The configuration that has the field.

    Returns:
        Its column: a string where the option may be given several times.
    """
    kind = _kind(model.model_fields[name].annotation)
    if kind not in ("int64", "float64"):
        return Column(name, kind or "string")
    return Column(name + _UNITS.get(value_words(name, 1, model), ""), kind)


@cache
def _parameters() -> dict[str, Option]:
    """Return every parameter that any workload has, by name."""
    return WORKLOADS.options


@cache
def parameter_columns(key: str) -> tuple[Column, ...]:
    """Return the columns of a workload's parameter; the first tells all its values apart.

    A working set, which is a size or a share, is kept as it was written. Lines, which are a number
    or a mixture, have both: what was written, and the number where it is one.

    Args:
        key: The parameter's name, as in `workload.KEY`.

    Returns:
        One column or two.

    Raises:
        KeyError: No workload has it.
    """
    option = _parameters()[key]
    name = f"workload_{key.replace('-', '_')}"
    try:
        kind = _KINDS.get(type(option.parse(option.default)), "string")
    except ValueError:  # a file, which has no default
        kind = "string"
    own = Column(name + option.reader.suffix, kind)
    if option.reader.as_text and kind != "string":
        return Column(f"{name}_text", "string"), own
    return (own,)


@cache
def net_column(key: str) -> Column:
    """Return the column of a part of `net`.

    Args:
        key: The part's name, as in `net.KEY`.

    Returns:
        A column of numbers.

    Raises:
        KeyError: It is not in `shape.KEYS`.
    """
    if key not in shape.KEYS:
        raise KeyError(key)
    unit = _NET_UNITS.get(key.removesuffix("-back"), "")
    return Column(f"net_{key.replace('-', '_')}{unit}", "float64")


def column_of(option: str, model: type[MigrationConfig] = MigrateCell) -> Column:
    """Return the column of an option as a plan names it, `workload.rate` included.

    Args:
        option: With dashes.
        model: The configuration that has the option.

    Returns:
        The column that tells all its values apart.

    Raises:
        KeyError: There is no such option.
    """
    head, dot, key = option.partition(".")
    if dot:
        if head == "net" and "net" in model.model_fields:
            return net_column(key)
        if head != "workload":
            raise KeyError(option)
        return Column("workload_name", "string") if key == "name" else parameter_columns(key)[0]
    name = option.replace("-", "_")
    if "_" in option or name not in model.model_fields:
        raise KeyError(option)
    return option_column(name, model)


@cache
def option_columns(model: type[MigrationConfig] = MigrateCell) -> tuple[Column, ...]:
    """Return the columns of all options and of all workloads' parameters.

    Args:
        model: The configuration; the parts of `net` have columns only where it is one of a cell.

    Returns:
        The columns, in the order of a row.
    """
    return (
        *(option_column(name, model) for name in model.model_fields),
        Column("workload_name", "string"),
        *(column for key in _parameters() for column in parameter_columns(key)),
        *(net_column(key) for key in shape.KEYS if issubclass(model, CellOptions)),
    )


def option_row(config: MigrationConfig) -> Row:
    """Make the row of a cell's options.

    Args:
        config: The cell's configuration.

    Returns:
        Values by column; None for a parameter that its workload does not have.

    Raises:
        UsageError: Its workload is unknown, or has a wrong option.
    """
    row: Row = {}
    for name in type(config).model_fields:
        value = getattr(config, name)
        row[option_column(name, type(config)).name] = (
            " ".join(value) if isinstance(value, tuple) else value
        )
    workload = parse_workload(config.workload)
    row["workload_name"] = workload.name
    for key in _parameters():
        row |= _parameter_row(key, workload.options.get(key))
    if isinstance(config, CellOptions):
        asked = config.net_values()
        row |= {net_column(key).name: asked.get(key) for key in shape.KEYS}
    return row


def _parameter_row(key: str, value: Any) -> Row:
    out: Row = {}
    for column in parameter_columns(key):
        if value is None:
            out[column.name] = None
        elif column.kind == "string":
            out[column.name] = str(value)
        else:
            out[column.name] = value if _KINDS.get(type(value)) == column.kind else None
    return out


def _said_part(option: str, value: float) -> str:
    head, _, key = option.removesuffix("-back").partition(".")
    if head == "net":
        text: str = shape.TEXTS[key](value)
        return text
    for unit, text_of in (("_Bps", format_rate), ("_s", format_time)):
        if column_of(option).name.endswith(unit):
            return text_of(value)
    return f"{value:g}"


def value_text(option: str, value: Scalar) -> str:
    """Write a value of an option's column as a person would.

    Args:
        option: As a plan names it.
        value: In the unit of the column.

    Returns:
        A text with its unit, such as `40MB/s`; `none` for None and for an empty text.
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, str):
        return value or "none"
    if "." in option:
        return _said_part(option, value)
    name = option.replace("-", "_")
    return value_words(name, value) if name in MigrationConfig.model_fields else f"{value:g}"


# -- results --------------------------------------------------------------------------------------


def _scalars(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[tuple[str, ...], Column]]:
    """Yield the path to each scalar of a model and of its parts, and its column."""
    for name, field in model.model_fields.items():
        if not prefix and name in _NOT_FLAT:
            continue
        members = list(_members(field.annotation))
        kind = _kind(field.annotation)
        if kind is not None:
            yield (name,), Column(prefix + name, kind)
        elif len(members) == 1 and _is_part(members[0]):
            for way, column in _scalars(members[0], f"{prefix}{name}_"):
                yield (name, *way), column


def _is_part(member: Any) -> bool:
    return isinstance(member, type) and issubclass(member, BaseModel)


_SCALARS: Final = tuple(_scalars(Report))


@cache
def result_columns(model: type[MigrationConfig] = MigrateCell) -> tuple[Column, ...]:
    """Return the columns of the report.

    A scalar with the name of an option (`strategy`) is in the option's column only.

    Args:
        model: The configuration that has the options.

    Returns:
        The columns, in the order of a row.
    """
    taken = {column.name for column in option_columns(model)}
    found = [column for _, column in _SCALARS]
    found += [Column(name, kind) for name, kind in _DERIVED.items()]
    found += [Column(name, "float64") for name in _PARTS.values()]
    return tuple(column for column in found if column.name not in taken)


def result_row(report: Report) -> Row:
    """Make the row of a report: its scalars, and what is counted or calculated from its lists.

    Args:
        report: Of one migration.

    Returns:
        Values by column; None for what is not known, or is not finite.
    """
    row: Row = {}
    for way, column in _SCALARS:
        value: Any = report
        for name in way:
            value = getattr(value, name, None)
        row[column.name] = value
    decisions = report.decisions
    row |= {
        "rounds": len(report.rounds),
        "drain_rounds": sum(each.kind == "drain" for each in report.rounds),
        # Of the first round, in which the guest is not yet slowed down by anything.
        "dirty_rate_Bps": next((d.dirty_rate for d in decisions if d.dirty_rate is not None), None),
        "bandwidth_Bps": next((d.bandwidth for d in decisions if d.bandwidth is not None), None),
        "guest_slowdown": slowdown(report),
        "limits_missed": " ".join(each.limit for each in report.limits_missed) or None,
        "host": _word(report.config, "host"),
        "dest_host": _word(report.config, "dest_host"),
    }
    row |= {_PARTS[part.name]: part.ms for part in report.downtime_parts}
    kept = {column.name for column in result_columns()}
    return {name: _finite(value) for name, value in row.items() if name in kept}


def _word(config: Mapping[str, Any], name: str) -> str | None:
    value = config.get(name)
    return value if isinstance(value, str) else None


def _finite(value: Scalar) -> Scalar:
    """Replace what JSON has no number for by None, as in the report."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
