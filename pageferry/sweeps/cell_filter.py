"""`--filter`: a choice of cells or of rows of results, as in `strategy=pre-copy|hybrid,cache=0`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from pageferry.common.command_line.complaints import complaint_of
from pageferry.common.errors import UsageError
from pageferry.common.workload.registry import WORKLOADS
from pageferry.sweeps.cells import check_known, is_several
from pageferry.sweeps.columns import column_of
from pageferry.sweeps.plan import one_line
from pageferry.sweeps.runners import Runner
from pageferry.sweeps.settings import net_value

_WITH_COMMAS: Final = ("workload", "net", "link", "schedule")
_NAME: Final = re.compile(r"[a-z][a-z0-9.-]*")


@dataclass(frozen=True, slots=True)
class CellFilter:
    """The values that some columns may have.

    Attributes:
        accepted: Accepted values by column name. Columns that are not named may have any value.
    """

    accepted: Mapping[str, frozenset[Any]]

    def __call__(self, row: Mapping[str, Any]) -> bool:
        """Tell whether every named column of a row has an accepted value.

        Args:
            row: Values by column name. A column that it lacks counts as None.

        Returns:
            True if the row is chosen.
        """
        return all(row.get(column) in values for column, values in self.accepted.items())


def parse_filter(text: str, runner: Runner) -> CellFilter:
    """Parse OPTION=VALUE[|VALUE...][,OPTION=...], with values as the option's flag takes them.

    A workload may contain commas, and so may a link: what follows a comma belongs to it unless it
    names an option.

    Args:
        text: What the user gave to `--filter`.
        runner: Decides which options exist, and how their values are read.

    Returns:
        The choice, by columns of results.

    Raises:
        UsageError: An option is unknown or given twice, or a value can't be read.
    """
    accepted: dict[str, frozenset[Any]] = {}
    for part in _parts(text, runner):
        option, equals, values = part.partition("=")
        option = option.strip()
        if not equals:
            raise UsageError(f"--filter: {one_line(repr(part))}: expected OPTION=VALUE")
        check_known(option, runner, f"--filter: {one_line(option)}")
        column = column_of(option, runner.options).name
        if column in accepted:
            raise UsageError(f"--filter: {option} is given twice: expected {option}=A|B")
        found = frozenset(_value(option, value.strip(), runner) for value in values.split("|"))
        accepted[column] = found
    return CellFilter(accepted)


def _parts(text: str, runner: Runner) -> list[str]:
    out: list[str] = []
    for part in text.split(","):
        option = part.partition("=")[0].strip()
        known = "." in option or option.replace("-", "_") in runner.options.model_fields
        inside = bool(out) and out[-1].partition("=")[0].strip() in _WITH_COMMAS
        if inside and not (known and _NAME.fullmatch(option)):
            out[-1] += f",{part}"
        else:
            out.append(part)
    return out


def _value(option: str, text: str, runner: Runner) -> Any:
    """Parse a value into what the option's column holds. Raises `UsageError`."""
    head, dot, key = option.partition(".")
    try:
        if head == "net" and dot:
            return net_value(key, text)
        if dot:
            return _parameter(key, text)
        if is_several(runner.options, head):
            return text
        field = runner.options.model_fields[head.replace("-", "_")]
        return TypeAdapter(field.rebuild_annotation()).validate_python(text)
    except ValidationError as error:
        raise UsageError(f"--filter: {option}: {one_line(complaint_of(error, field))}") from None
    except ValueError as error:
        raise UsageError(f"--filter: {option}: {one_line(str(error))}") from None


def _parameter(key: str, text: str) -> Any:
    """Parse the value of a workload's parameter. Raises `ValueError`."""
    if key == "name":
        return text
    option = WORKLOADS.options[key]
    value = option.parse(text)
    return str(value) if option.reader.as_text else value
