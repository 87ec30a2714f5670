"""What pydantic found, in our words: `VALUE is wrong: expected WHAT`."""

from __future__ import annotations

import math
import typing
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from pageferry.common.command_line.field_spec import FieldSpec, listed
from pageferry.common.command_line.suggestions import did_you_mean
from pageferry.common.units import UnitError

_SHOWN: Final = 80  # characters of a value in a complaint
_MOST_LISTED: Final = 12  # names of fields
_BELOW: Final = ("greater_than_equal", "greater_than")
_ABOVE: Final = ("less_than_equal", "less_than")


def shortened(value: object) -> str:
    """Show a value in a complaint, on one line that is not too long.

    Args:
        value: As it was given.

    Returns:
        Its repr, cut off after 80 characters; then its length is added.
    """
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text):,} characters)"


def complaint(
    detail: ErrorDetails,
    spec: FieldSpec | None = None,
    fields: Mapping[str, FieldInfo] | None = None,
) -> str:
    """Word what pydantic found.

    Args:
        detail: One of `ValidationError.errors()`.
        spec: What is known of the field; None: as much as the error itself tells.
        fields: The model's fields by name, to suggest one for a name that is unknown.

    Returns:
        One line, `... is wrong: expected ...`, without the option's name.
    """
    kind, value = detail["type"], detail["input"]
    context = detail.get("ctx", {})
    spec = spec or _bounds_of(kind, context)
    wordings: dict[str, Callable[[], str]] = {
        "our_words": lambda: str(context["text"]),
        "value_error": lambda: _refused(context.get("error"), detail["msg"], spec),
        "extra_forbidden": lambda: _unknown(str(detail["loc"][-1]), fields or {}),
        "missing": lambda: f"it is missing: expected {spec.expected or 'a value'}",
        "literal_error": lambda: _no_choice(value, context, spec),
        "string_too_long": lambda: f"{shortened(value)} is too long: expected {spec.expected}",
    }
    if kind in _BELOW or kind in _ABOVE:
        return f"{_outside(kind, value, spec)}: expected {spec.expected}"
    if kind in wordings:
        return wordings[kind]()
    noun = _noun(kind, spec)
    said = "neither true nor false" if noun == "true or false" else f"not {noun}"
    return f"{shortened(value)} is {said}: expected {spec.expected or 'another'}"


def _no_choice(value: object, context: Mapping[str, Any], spec: FieldSpec) -> str:
    """Word a value that is none of a `Literal`'s."""
    choices = spec.choices or [str(context.get("expected", "another value"))]
    hint = did_you_mean(str(value), choices)
    return f"{shortened(value)} is unknown: expected {listed(choices)}" + _after(hint)


def complaint_of(error: ValidationError, field: FieldInfo) -> str:
    """Word what is wrong with one field's value that was checked alone.

    Args:
        error: Of that value; its first error is taken.
        field: The field that it was meant for.

    Returns:
        One line, as `complaint` words it.
    """
    return complaint(error.errors(include_url=False)[0], FieldSpec.of(field))


def _after(hint: str) -> str:
    """Put a hint behind a complaint; nothing where there is none."""
    return f"; {hint}" if hint else ""


def _refused(error: object, message: str, spec: FieldSpec) -> str:
    """Word what a parser or a check of ours has refused."""
    text = message.removeprefix("Value error, ")
    if isinstance(error, UnitError) and not error.settled and spec.expected:
        return f"{error.problem}: expected {spec.expected}"
    return text


def _unknown(name: str, fields: Mapping[str, FieldInfo]) -> str:
    """Word a name that no field has."""
    known = [field.alias or each.replace("_", "-") for each, field in fields.items()]
    hint = did_you_mean(name, known)
    if len(known) > _MOST_LISTED or not known:
        return "unknown option" + _after(hint)
    return f"unknown: expected {listed(known)}" + _after(hint)


def _outside(kind: str, value: object, spec: FieldSpec) -> str:
    """Word a value outside its range: `'10m' is 600s, too long`."""
    unit = spec.unit
    low, high = ("too small", "too large") if unit is None else (unit.below, unit.above)
    what = low if kind in _BELOW else high
    if unit is None or not isinstance(value, str):
        text = shortened(value) if unit is None else spec.written(typing.cast(float, value))
        return f"{text} is {what}"
    number = unit.parse(value)
    if math.isinf(number):
        return f"{shortened(value)} is {what}"
    read = unit.text(number)
    same = read.lower() == value.strip().lower().replace(" ", "")
    return f"{shortened(value)} is {what}" if same else f"{shortened(value)} is {read}, {what}"


def _noun(kind: str, spec: FieldSpec) -> str:
    """Name what was expected, as far as the error's type tells."""
    if spec.unit is not None:
        return spec.unit.noun
    if kind == "string_pattern_mismatch":
        return "text that is taken"
    nouns = {
        "int": "a whole number",
        "float": "a number",
        "finite": "a number",
        "bool": "true or false",
        "tuple": "a list",
        "list": "a list",
        "string": "text",
    }
    return next((noun for begins, noun in nouns.items() if kind.startswith(begins)), "understood")


def _bounds_of(kind: str, context: Mapping[str, Any]) -> FieldSpec:
    """Collect as much of a field's specification as an error tells."""
    spec = FieldSpec([])
    if kind in ("greater_than_equal", "greater_than", "less_than_equal", "less_than"):
        spec.least, spec.above = context.get("ge"), context.get("gt")
        spec.most, spec.below = context.get("le"), context.get("lt")
    if kind == "string_too_long":
        spec.longest = context.get("max_length")
    kinds = {"int": int, "float": float, "finite": float, "bool": bool, "string": str}
    spec.kinds = [each for name, each in kinds.items() if kind.startswith(name)]
    return spec
