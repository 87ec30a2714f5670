"""The plan of a sweep: a TOML file, read and checked, nothing of it expanded yet.

    runner = "migrate"            what runs a cell: migrate or simulate
    output = "bandwidths"         the folder of the results, beside the plan
    repeats = 3                   runs of each combination, with seeds that count up
    max-cells = 500               more are refused

    [options]                     the same for all cells: names and values as of the flags
    [grid]                        axes: each takes a list, every combination is a cell
    [[list]]                      one axis of several options whose lists go side by side

Every value becomes the text that the flag would be given, so that one syntax is right for both.
Whatever is wrong raises `UsageError`: one line with the file, the key and what was expected.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationError

from pageferry.common.command_line.field_spec import Words
from pageferry.common.command_line.options import Options
from pageferry.common.config.model import first_fault
from pageferry.common.errors import UsageError
from pageferry.common.files.input_files import parse_toml, read_file

_MOST_BYTES: Final = 1 << 20
_MOST_CELLS: Final = 100_000
PARTED: Final = ("workload", "net")  # options whose parts have names of their own
_LONGEST: Final = 300  # characters of a complaint, whose end tells what was expected

Value = str | tuple[str, ...]  # a tuple for an option that may be given several times


def _text(value: Any) -> str:
    """Write a value as the flag would be given it. Raises `ValueError`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise ValueError(f"{one_line(repr(value))}: expected text, a number, true or false")


def _value(value: Any) -> Value:
    return tuple(_text(each) for each in value) if isinstance(value, list) else _text(value)


def _values(value: Any) -> tuple[Value, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{one_line(repr(value))}: expected a list of values")
    if not value:
        raise ValueError("expected at least one value")
    return tuple(_value(each) for each in value)


def _different(values: tuple[Value, ...]) -> tuple[Value, ...]:
    seen: set[Value] = set()
    for each in values:
        if each in seen:
            raise ValueError(f"{one_line(repr(each))} is given twice")
        seen.add(each)
    return values


def _flat(table: Any) -> Any:
    """Flatten tables: `workload.rate = …` makes one in TOML, its keys are options as any other."""
    if not isinstance(table, dict):
        raise ValueError(f"{one_line(repr(table))}: expected a table of options")
    out: dict[str, Any] = {}
    for key, value in table.items():
        inner = value.items() if key in PARTED and isinstance(value, dict) else None
        for name, each in [(key, value)] if inner is None else inner:
            full = name if inner is None else f"{key}.{name}"
            full = "workload" if full == "workload.name" else full
            if full in out:
                raise ValueError(f"{full} is given twice")
            out[full] = each
    return out


def _same_length(table: dict[str, tuple[Value, ...]]) -> dict[str, tuple[Value, ...]]:
    lengths = {name: len(values) for name, values in table.items()}
    if not lengths:
        raise ValueError("expected at least one option")
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name} has {count}" for name, count in lengths.items())
        raise ValueError(f"{said}: expected lists of one length")
    return table


FixedValue = Annotated[Any, BeforeValidator(_value)]
Several = Annotated[Any, BeforeValidator(_values)]
OptionLists = Annotated[dict[str, Several], BeforeValidator(_flat)]
Axes = Annotated[dict[str, Annotated[Several, AfterValidator(_different)]], BeforeValidator(_flat)]


class SweepPlan(Options):
    """A sweep as its file describes it.

    Attributes:
        runner: The name of what runs a cell.
        output: The folder of the results, beside the plan; None: named like the plan's file.
        repeats: Runs of each combination.
        max_cells: A plan with more cells is refused.
        options: What all cells have: a text, or several, by option.
        grid: An axis for each option, with its values.
        columns: The tables of `[[list]]`: each is one axis of options whose lists have one length.
    """

    model_config = ConfigDict(alias_generator=lambda name: name.replace("_", "-"))

    runner: str = "migrate"
    output: Annotated[str | None, Field(min_length=1, max_length=1024)] = None
    repeats: Annotated[int, Field(strict=True, ge=1, le=1000)] = 1
    max_cells: Annotated[int, Field(strict=True, ge=1, le=_MOST_CELLS)] = 1000
    options: Annotated[dict[str, FixedValue], BeforeValidator(_flat)] = Field(default_factory=dict)
    grid: Axes = Field(default_factory=dict)
    columns: Annotated[
        tuple[Annotated[OptionLists, AfterValidator(_same_length)], ...],
        Words("tables of options, each with a list"),
        Field(alias="list"),
    ] = ()


def read_plan(file: Path) -> SweepPlan:
    """Read a plan.

    Args:
        file: The TOML file, of at most 1 MiB.

    Returns:
        The plan; whether its options exist is not checked yet.

    Raises:
        UsageError: It can't be read, or is not a plan.
    """
    return parse_plan(read_file(file, _MOST_BYTES), str(file))


def parse_plan(data: bytes, name: str) -> SweepPlan:
    """Parse a plan.

    Args:
        data: TOML.
        name: Of the file, for complaints.

    Returns:
        The plan; whether its options exist is not checked yet.

    Raises:
        UsageError: It is not a plan.
    """
    document = parse_toml(data, name)
    try:
        return SweepPlan.model_validate(document)
    except ValidationError as error:
        raise UsageError(f"{name}: {_explain(error)}") from None


def _explain(error: ValidationError) -> str:
    first, message = first_fault(error)
    where = ".".join(str(part) for part in first["loc"])
    return f"{one_line(where)}: {message}"


def one_line(text: str) -> str:
    """Shorten a text to one line, no longer than a complaint may be.

    Args:
        text: It may have several lines.

    Returns:
        At most 300 characters, and an ellipsis where more were there.
    """
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
