"""Options that take several values in `pageferry compare`, and the cases that they span.

The command's options are those of `MigrationConfig`, but a field that is an axis takes a comma
list. Which fields are axes is defined in `AXES`, and nowhere else.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import Parameter
from pydantic import BaseModel, Field, create_model
from pydantic.fields import FieldInfo

from pageferry.common.command_line.options import Options
from pageferry.common.config.model import MigrationConfig
from pageferry.common.errors import UsageError
from pageferry.runs.series import Case

# Field: its option's names. The first axis changes slowest.
AXES: Final = {
    name: names
    for name, names in {
        "strategy": ("--strategies", "--strategy"),
        "cache": ("--cache", "--caches"),
        "granularity": ("--granularity", "--granularities"),
    }.items()
    if name in MigrationConfig.model_fields
}
STRATEGIES: Final = "stop-and-copy,pre-copy,post-copy,lazy-copy,hybrid,three-path,cache-aware"


def _axis_default(name: str, field: FieldInfo) -> str:
    if name == "strategy":
        return STRATEGIES
    for item in field.metadata:
        if isinstance(item, Parameter) and callable(item.show_default):
            return str(item.show_default(field.default))
    return str(field.default)


def _options() -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for name, field in MigrationConfig.model_fields.items():
        if name in AXES:
            about = Field(description=f"{field.description}; several, separated by commas")
            annotation = Annotated[str, Parameter(name=AXES[name]), about]
            fields[name] = (annotation, _axis_default(name, field))
        else:
            fields[name] = (field.rebuild_annotation(), field)
    return create_model("CompareOptions", __base__=Options, **fields)


if TYPE_CHECKING:
    CompareOptions = BaseModel
else:
    CompareOptions = _options()


class CompareSeries(Options):
    """How often each configuration is run."""

    runs: Annotated[
        int,
        Field(ge=1, le=1000, description="runs of each row, in turn: medians and spread"),
    ] = 1


def values_of(name: str, text: str) -> list[str]:
    """Split what an axis was given: `a, b` has two values.

    Args:
        name: The field; one of `AXES`.
        text: What the user wrote.

    Returns:
        The values: all different, otherwise unchecked.

    Raises:
        UsageError: A value is empty, or is given twice.
    """
    values = [part.strip() for part in text.split(",")]
    option = AXES[name][0]
    if not all(values):
        raise UsageError(f"{option}: {text!r} has an empty part: expected values between commas")
    for value in values:
        if values.count(value) > 1:
            raise UsageError(f"{option}: {value} is given twice")
    return values


def span(options: BaseModel) -> tuple[list[Case], list[dict[str, str]]]:
    """Make every combination of the axes, before anything is run.

    Args:
        options: `CompareOptions`.

    Returns:
        The cases, and the value of each on every axis, as the user wrote it.

    Raises:
        ValidationError: One of them is not a configuration.
        UsageError: A list of values is wrong, or two cases are the same.
    """
    given = options.model_dump()
    axes = {name: values_of(name, given[name]) for name in AXES}
    cases: list[Case] = []
    cells: list[dict[str, str]] = []
    for values in itertools.product(*axes.values()):
        point = dict(zip(axes, values, strict=True))
        config = MigrationConfig.model_validate(given | point)
        label = ", ".join(
            _said(name, value)
            for name, value in point.items()
            if name == "strategy" or len(axes[name]) > 1
        )
        for case in cases:
            if case.config == config:
                raise UsageError(f"{case.label} and {label} are the same")
        cases.append(Case(label, config))
        cells.append(point)
    return cases, cells


def varied(cells: list[dict[str, str]]) -> list[str]:
    """List the axes worth a column: strategy, and those on which rows differ.

    Args:
        cells: The value of each row on every axis.

    Returns:
        Some of `AXES`, in their order.
    """
    return [name for name in AXES if name == "strategy" or len({cell[name] for cell in cells}) > 1]


def _said(name: str, value: str) -> str:
    if name == "cache":
        return "no cache" if value.rstrip("BKMGTikmgtb") == "0" else f"cache {value}"
    return value if name == "strategy" else f"{name} {value}"
