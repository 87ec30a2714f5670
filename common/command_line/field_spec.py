"""What is known of an option, to say what is expected: its type, its bounds and its unit."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import annotated_types
from pydantic.fields import FieldInfo


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
class FieldSpec:
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
    def of(cls, field: FieldInfo) -> FieldSpec:
        """Collect what is known of a model's field.

        Args:
            field: Whatever unions and annotations its type is made of.

        Returns:
            A new specification.
        """
        return cls.of_type(field.annotation, field.metadata)

    @classmethod
    def of_type(cls, annotation: Any, metadata: Iterable[Any] = ()) -> FieldSpec:
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
        """Take what was annotated."""
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
