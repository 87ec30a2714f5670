"""Values as people write them: sizes, rates, times, shares, faults; how each is read and shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

from cyclopts import Parameter
from pydantic import AfterValidator, BeforeValidator, Field

from pageferry.common.command_line.field_spec import Unit
from pageferry.common.config.postcopy_trigger import Trigger
from pageferry.common.config.prepage import Prepage
from pageferry.common.inject import Injection, parse_injection
from pageferry.common.units import (
    format_rate,
    format_share,
    format_size,
    format_time,
    parse_percentage,
    parse_rate,
    parse_share,
    parse_size,
    parse_time,
    spoken_time,
)


def reader(parse: Callable[[str], Any]) -> BeforeValidator:
    """Make a validator that parses text and takes a number as it is.

    Args:
        parse: From text to the value; raises `ValueError`.

    Returns:
        For the annotation of a field.
    """
    return BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)


def shown_as(text_of: Callable[[Any], str], metavar: str | None = None) -> Parameter:
    """Set how a default is shown in `--help`, and how `flags()` writes a value.

    Args:
        text_of: From the value to text that its parser reads back; None is shown as `none`.
        metavar: What stands behind the flag in `--help`; None: cyclopts chooses.

    Returns:
        For the annotation of a field.
    """
    return Parameter(
        show_default=lambda value: "none" if value is None else text_of(value), metavar=metavar
    )


SIZE: Final = Unit("a size", parse_size, format_size, "512MiB or 1GiB")

RATE: Final = Unit("a rate", parse_rate, format_rate, "100MB/s or 800mbit", "too slow", "too fast")

TIME: Final = Unit("a time", parse_time, spoken_time, "300ms or 2s", "too short", "too long")

SHARE: Final = Unit("a share", parse_share, format_share, "10% or 0.1")

PERCENTAGE: Final = Unit("a share", parse_percentage, format_share, "0.1%")

Size = Annotated[int, reader(parse_size), shown_as(format_size, "SIZE"), SIZE]

Rate = Annotated[float, reader(parse_rate), shown_as(format_rate, "RATE"), RATE]

Duration = Annotated[float, reader(parse_time), shown_as(format_time, "TIME"), TIME]

TimeLimit = Annotated[
    Annotated[Duration, Field(gt=0, le=86400)] | None,
    shown_as(format_time, "TIME"),
]

Share = Annotated[float, reader(parse_share), shown_as(format_share, "SHARE"), SHARE]

# For what tc writes in percent: a number without the sign has two readings.
Percentage = Annotated[float, reader(parse_percentage), shown_as(format_share, "SHARE"), PERCENTAGE]

Compression = Literal["none", "zstd", "lz4"]


def _parse_injections(texts: tuple[str, ...]) -> tuple[Injection, ...]:
    """Parse every value of `--inject`."""
    return tuple(map(parse_injection, texts))


# Parsed once, here: a value is the text that was written, as flags and documents have it, and knows
# what it means. For code that makes flags and columns of fields, they are text.
if TYPE_CHECKING:
    TriggerOption: TypeAlias = Trigger
    PrepageOption: TypeAlias = Prepage
    InjectionsOption: TypeAlias = tuple[Injection, ...]
else:
    TriggerOption = Annotated[str, AfterValidator(Trigger)]
    PrepageOption = Annotated[str, AfterValidator(Prepage)]
    InjectionsOption = Annotated[tuple[str, ...], AfterValidator(_parse_injections)]

Injections = Annotated[
    InjectionsOption,
    Parameter(negative_iterable="", show_default=lambda texts: " ".join(texts) or "none"),
    Field(description="make it fail: POINT:ACTION, as 'pageferry inject list' has them"),
]

StallTimeout = Annotated[
    Duration,
    Field(ge=1, le=86400, description="a peer that is silent for this TIME is taken for gone"),
]
