"""Parts of a report as pandas or polars frames, whichever is installed: neither is needed."""

from __future__ import annotations

import json
import sys
import typing
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Final, Literal

from pydantic import BaseModel

from pageferry.common.command_line.field_spec import kinds_of
from pageferry.common.command_line.libraries import how_to_install, require_library
from pageferry.common.errors import UsageError

Library = Literal["pandas", "polars"]
ValueKind = Literal["int", "float", "bool", "text"]
_LIBRARIES: Final[tuple[Library, ...]] = ("pandas", "polars")
_PANDAS: Final = {"int": "Int64", "float": "float64", "bool": "boolean", "text": "string"}
_POLARS: Final = {"int": "Int64", "float": "Float64", "bool": "Boolean", "text": "String"}


def frame_of(
    model: type[BaseModel], parts: Sequence[BaseModel], library: Library | None = None
) -> Any:
    """Make a frame with a row for each part and a column for each field of its model.

    Args:
        model: What the parts are; its fields are the columns, also where there are no parts.
        parts: The rows, in order. Fields beside the model's own (of events) are columns behind
            them.
        library: Which library's frame; None takes one that is imported, else one that is installed.

    Returns:
        A pandas or polars `DataFrame`. Null is `NA`, NaN or null as the library has it for the
        column's type. What is neither number nor text (a list) is its JSON text.

    Raises:
        UsageError: The library is not installed; the message says how to install it.
    """
    rows = [part.model_dump() for part in parts]
    kinds = {name: _kind_of(field.annotation) for name, field in model.model_fields.items()}
    more = {name: kind for name, kind in kinds_of_rows(rows).items() if name not in kinds}
    return make_frame(kinds | more, rows, library)


def kinds_of_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, ValueKind]:
    """Find the columns of rows that no model describes, each with the narrowest kind that fits.

    Args:
        rows: Values by column; a row may lack columns.

    Returns:
        Kinds by column, in the order in which columns first occur.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: _kind_of_values([row.get(name) for row in rows]) for name in names}


def make_frame(
    kinds: Mapping[str, ValueKind],
    rows: Sequence[Mapping[str, Any]],
    library: Library | None = None,
) -> Any:
    """Make a frame of rows.

    Args:
        kinds: Kinds by column; they and their order are the frame's, other values are left out.
        rows: Values by column; a value that is missing is null.
        library: As in `frame_of`.

    Returns:
        A `DataFrame`, as `frame_of` makes it.

    Raises:
        UsageError: The library is not installed; the message says how to install it.
    """
    chosen = _chosen(library)
    columns = {name: [_value(row.get(name), kind) for row in rows] for name, kind in kinds.items()}
    if chosen == "pandas":
        import pandas as pd

        series = {
            name: pd.Series(values, dtype=_PANDAS[kinds[name]]) for name, values in columns.items()
        }
        return pd.DataFrame(series, columns=list(kinds))
    import polars as pl

    return pl.DataFrame(columns, schema={n: getattr(pl, _POLARS[k]) for n, k in kinds.items()})


def _chosen(library: Library | None) -> Library:
    """Choose the library, and make sure that it is installed."""
    if library is not None:
        if library not in _LIBRARIES:
            raise UsageError(f"{library!r} makes no frames: expected pandas or polars")
        require_library("a frame", library)
        return library
    for name in _LIBRARIES:
        if name in sys.modules:
            return name
    for name in _LIBRARIES:
        if find_spec(name) is not None:
            return name
    raise UsageError(f"a frame needs pandas or polars: {how_to_install('pandas')}")


def _kind_of(annotation: Any) -> ValueKind:
    """Return the kind of column for a field's type."""
    kinds = set(kinds_of(annotation))
    if kinds == {bool}:
        return "bool"
    if kinds == {int}:
        return "int"
    return "float" if kinds and kinds <= {int, float} else "text"


def _kind_of_values(values: Sequence[Any]) -> ValueKind:
    """Return the narrowest kind that all values have."""
    types = {type(value) for value in values if value is not None}
    for kind, fit in typing.cast(
        "list[tuple[ValueKind, set[type]]]",
        [("bool", {bool}), ("int", {int}), ("float", {int, float})],
    ):
        if types and types <= fit:
            return kind
    return "text"


def _value(value: Any, kind: ValueKind) -> Any:
    """Convert a value to its column's kind."""
    if value is None or kind != "text":
        return float(value) if kind == "float" and value is not None else value
    return value if isinstance(value, str) else json.dumps(value)
