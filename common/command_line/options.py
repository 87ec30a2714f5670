"""What people write, and complaints about it in one form: `WHAT is wrong: expected WHAT`.

`Options` is the base of every model that people fill in. pydantic's own messages name bounds
without units, and types nobody has chosen: each is worded anew, with the field's range and unit.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

import annotated_types
from cyclopts import Parameter
from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from pageferry.common.command_line.suggestions import did_you_mean
from pageferry.common.units import UnitError

_SHOWN: Final = 80  # characters of a value in a complaint
_MOST_LISTED: Final = 12  # names of fields
_BELOW: Final = ("greater_than_equal", "greater_than")
_ABOVE: Final = ("less_than_equal", "less_than")


@dataclass(frozen=True, slots=True)
class Unit:
    """How a kind of number is written.

    Attributes:
        noun: What a value is called, with its article: `a size`.
        parse: From text to the number; raises `UnitError`.
        text: From the number to text that parses to exactly the same.
        example: One or two values, joined by ` or `.
        below, above: What a value below or above its range is called.
    """

    noun: str
    parse: Callable[[str], float]
    text: Callable[[Any], str]
    example: str
    below: str = "too small"
    above: str = "too large"


@dataclass(frozen=True, slots=True)
class Words:
    """What a field expects, where its type does not tell: `a name of letters and digits`."""

    expected: str


@dataclass(slots=True)
class Spec:
    """What is known of a field: its type, its bounds, its unit.

    Attributes:
        kinds: The types of its union, without `None`.
        unit: How its number is written; None: it has no unit.
        words: What it expects, where that was given; takes the place of everything else.
        least, most, above, below: Its bounds; the first two are allowed themselves.
        longest: The most characters of a text.
    """

    kinds: list[Any]
    unit: Unit | None = None
    words: str | None = None
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    longest: int | None = None

    @classmethod
    def of(cls, field: FieldInfo) -> Spec:
        """Collect what is known of a model's field.

        Args:
            field: Whatever unions and annotations its type is made of.

        Returns:
            A new specification.
        """
        return cls.of_type(field.annotation, field.metadata)

    @classmethod
    def of_type(cls, annotation: Any, metadata: Iterable[Any] = ()) -> Spec:
        """Collect what is known of a type.

        Args:
            annotation: The type, with unions and annotations.
            metadata: What was annotated beside it; it overrides what the type says.

        Returns:
            A new specification.
        """
        spec = cls(list(kinds_of(annotation)))
        for item in (*_metadata(annotation), *metadata):
            spec._take(item)
        return spec

    def _take(self, item: Any) -> None:
        if isinstance(item, Unit):
            self.unit = item
        elif isinstance(item, Words):
            self.words = item.expected
        elif isinstance(item, annotated_types.Ge):
            self.least = typing.cast(float, item.ge)
        elif isinstance(item, annotated_types.Gt):
            self.above = typing.cast(float, item.gt)
        elif isinstance(item, annotated_types.Le):
            self.most = typing.cast(float, item.le)
        elif isinstance(item, annotated_types.Lt):
            self.below = typing.cast(float, item.lt)
        elif isinstance(item, annotated_types.MaxLen):
            self.longest = item.max_length

    @property
    def choices(self) -> list[str]:
        """The words of a `Literal`; empty where there are none."""
        literals = [kind for kind in self.kinds if typing.get_origin(kind) is Literal]
        found = [each for kind in literals for each in typing.get_args(kind)]
        return [str(each) for each in found if isinstance(each, str)]

    def written(self, value: float) -> str:
        """Write a bound as a person would.

        Args:
            value: In the unit's own measure (bytes, seconds, ...).

        Returns:
            With its unit, if there is one.
        """
        if self.unit is not None:
            return self.unit.text(value)
        return str(value) if isinstance(value, int) else f"{value:.15g}"

    @property
    def range(self) -> str:
        """The bounds in words, `from 4KiB to 16TiB`; empty where there are none."""
        low = self.least if self.above is None else self.above
        high = self.most if self.below is None else self.below
        if low is None and high is None:
            return ""
        if low is None:
            assert high is not None  # noqa: S101
            return f"{'at most' if self.below is None else 'below'} {self.written(high)}"
        if high is None:
            return f"{'at least' if self.above is None else 'more than'} {self.written(low)}"
        last = f"{'' if self.below is None else 'below '}{self.written(high)}"
        if self.above is None:
            return f"from {self.written(low)} to {last}"
        return f"above {self.written(low)} and {'at most ' if self.below is None else ''}{last}"

    @property
    def expected(self) -> str:
        """What is expected, in words: `a size from 4KiB to 16TiB, as in 512MiB or 1GiB`."""
        if self.words is not None:
            return self.words
        if self.choices:
            return listed(self.choices)
        noun, example = "", ""
        if self.unit is not None:
            noun, example = self.unit.noun, self._example
        elif bool in self.kinds:
            noun = "true or false"
        elif int in self.kinds:
            noun = "a whole number"
        elif float in self.kinds:
            noun = "a number"
        elif self.longest is not None:
            return f"at most {self.longest:,} characters"
        elif str in self.kinds:
            noun = "text"
        unlimited = self._unlimited and self.unit is not None
        of = "of " if noun and self.range.startswith(("at ", "more ")) else ""
        parts = [part for part in (noun, of + self.range) if part]
        return " ".join(parts) + example + (", or unlimited" if unlimited else "")

    @property
    def _example(self) -> str:
        """Examples that are in range, `, as in 300ms or 2s`; empty where none of the unit's is."""
        assert self.unit is not None  # noqa: S101 - see `expected`
        low = max(bound for bound in (self.least, self.above, -math.inf) if bound is not None)
        high = min(bound for bound in (self.most, self.below, math.inf) if bound is not None)
        texts = self.unit.example.split(" or ")
        fit = [text for text in texts if low <= self.unit.parse(text) <= high]
        return f", as in {' or '.join(fit)}" if fit else ""

    @property
    def _unlimited(self) -> bool:
        """Whether a rate may be `unlimited`."""
        return (
            self.unit is not None
            and self.unit.noun == "a rate"
            and self.most is None
            and self.below is None
        )


def listed(words: Sequence[str]) -> str:
    """Join words for a sentence: `a, b or c`.

    Args:
        words: Any number of them; none: empty text.

    Returns:
        The text.
    """
    return " or ".join([", ".join(words[:-1]), *words[-1:]]) if len(words) > 1 else "".join(words)


def shortened(value: object) -> str:
    """Show a value in a complaint, on one line that is not too long.

    Args:
        value: As it was given.

    Returns:
        Its repr, cut off after 80 characters; then its length is added.
    """
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text):,} characters)"


class Options(BaseModel):
    """A model that people fill in; what is wrong with it is told in our words."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True)

    @model_validator(mode="wrap")
    @classmethod
    def _in_our_words(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            _check_digits(cls, data)
            return handler(data)
        except ValidationError as error:
            worded = [_worded(cls, each) for each in error.errors(include_url=False)]
            raise ValidationError.from_exception_data(cls.__name__, worded) from error


def _check_digits(cls: type[BaseModel], data: Any) -> None:
    """Refuse `1_000`, a number to Python and pydantic only. Raises `ValidationError`."""
    for name, field in cls.model_fields.items():
        text = data.get(name, data.get(field.alias)) if isinstance(data, dict) else None
        if not isinstance(text, str) or "_" not in text:
            continue
        for kind, refusal in ((int, "int_parsing"), (float, "float_parsing")):
            if kind in kinds_of(field.annotation) and _is_number(text):
                wrong = InitErrorDetails(type=refusal, loc=(name,), input=text)
                raise ValidationError.from_exception_data(cls.__name__, [wrong])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _worded(cls: type[BaseModel], detail: ErrorDetails) -> InitErrorDetails:
    name, field = _field(cls, detail["loc"])
    option = None if name is None or field is None else _option(name, field)
    text = complaint(detail, None if field is None else Spec.of(field), cls.model_fields)
    context = {"text": text, "option": option or "", "was": detail["type"]}
    if detail["type"] == "our_words":  # from a model within this one
        context = detail["ctx"]
    return InitErrorDetails(
        type=PydanticCustomError("our_words", "{text}", context),
        loc=detail["loc"],
        input=detail["input"],
    )


def _field(cls: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[str | None, FieldInfo | None]:
    head = loc[0] if loc else None
    for name, field in cls.model_fields.items():
        if head in (name, field.alias):
            return name, field
    return None, None


def _option(name: str, field: FieldInfo) -> str:
    """Name the flag that sets a field."""
    for item in field.metadata:
        if isinstance(item, Parameter) and item.name:
            return item.name if isinstance(item.name, str) else next(iter(item.name))
    return "--" + name.replace("_", "-")


def complaint(
    detail: ErrorDetails, spec: Spec | None = None, fields: Mapping[str, FieldInfo] | None = None
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


def _no_choice(value: object, context: Mapping[str, Any], spec: Spec) -> str:
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
    return complaint(error.errors(include_url=False)[0], Spec.of(field))


def _after(hint: str) -> str:
    return f"; {hint}" if hint else ""


def _refused(error: object, message: str, spec: Spec) -> str:
    """Word what a parser or a check of ours has refused."""
    text = message.removeprefix("Value error, ")
    if isinstance(error, UnitError) and not error.settled and spec.expected:
        return f"{error.problem}: expected {spec.expected}"
    return text


def _unknown(name: str, fields: Mapping[str, FieldInfo]) -> str:
    known = [field.alias or each.replace("_", "-") for each, field in fields.items()]
    hint = did_you_mean(name, known)
    if len(known) > _MOST_LISTED or not known:
        return "unknown option" + _after(hint)
    return f"unknown: expected {listed(known)}" + _after(hint)


def _outside(kind: str, value: object, spec: Spec) -> str:
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


def _noun(kind: str, spec: Spec) -> str:
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


def _bounds_of(kind: str, context: Mapping[str, Any]) -> Spec:
    """Collect as much of a field's specification as an error tells."""
    spec = Spec([])
    if kind in ("greater_than_equal", "greater_than", "less_than_equal", "less_than"):
        spec.least, spec.above = context.get("ge"), context.get("gt")
        spec.most, spec.below = context.get("le"), context.get("lt")
    if kind == "string_too_long":
        spec.longest = context.get("max_length")
    kinds = {"int": int, "float": float, "finite": float, "bool": bool, "string": str}
    spec.kinds = [each for name, each in kinds.items() if kind.startswith(name)]
    return spec


def _metadata(annotation: Any) -> Iterator[Any]:
    """Yield everything that is annotated, inside out."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        inner, *items = typing.get_args(annotation)
        yield from _metadata(inner)
        for item in items:
            yield from item.metadata if isinstance(item, FieldInfo) else (item,)
    elif origin is types.UnionType or origin is typing.Union:
        for each in typing.get_args(annotation):
            yield from _metadata(each)


def kinds_of(annotation: Any) -> Iterator[Any]:
    """Yield the types of a union, without `None`; a `Literal` as it is.

    Args:
        annotation: Any annotation; what is `Annotated` is looked through.

    Yields:
        Each member of the union; the type itself where it is none.
    """
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from kinds_of(typing.get_args(annotation)[0])
    elif origin is types.UnionType or origin is typing.Union:
        for each in typing.get_args(annotation):
            yield from kinds_of(each)
    elif origin is Literal or annotation is not type(None):
        yield annotation
