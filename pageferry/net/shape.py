"""What a link is asked to be: rate, delay, jitter, loss and reorder of either direction.

*Forward* is from the source to the destination. `--rate 800mbit` is for both directions, and
`--rate-back` for the way back where it differs; a `delay` is one way, so that a round trip has two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

from cyclopts import Parameter
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from pageferry.common.command_line.options import Options
from pageferry.common.command_line.suggestions import did_you_mean
from pageferry.common.config.fields import Duration, Percentage, Rate
from pageferry.common.config.model import explain
from pageferry.common.errors import UsageError
from pageferry.common.units import (
    UnitError,
    format_rate,
    format_share,
    format_time,
    parse_rate,
    parse_size,
    parse_time,
)

MTU: Final = 1500
MOST_RATE: Final = 4e9  # bytes/s: the kernel's shapers count in 32 bits
QUEUE_S: Final = 0.05
LEAST_QUEUE: Final = 32 * 1024  # bytes: some twenty packets
LARGEST_PACKET: Final = 65536 + 1500


MODEL: Final = ConfigDict(
    frozen=True, extra="forbid", allow_inf_nan=True, ser_json_inf_nan="constants"
)


class Direction(Options):
    """One direction of a link.

    Attributes:
        rate: Bytes/s, with the frames' headers counted; infinite is unlimited.
        delay: How long a packet takes, in seconds, one way.
        jitter: By how many seconds the delay varies either way, evenly; at most `delay`.
        loss: Share of the packets that are lost.
        reorder: Share of the packets that overtake by having no delay; needs a delay.
        queue: For how many seconds packets may wait for the rate; those beyond that are dropped.
            None is 50 ms, or a round trip where that is longer.
    """

    model_config = MODEL

    rate: Annotated[Rate, Field(ge=1000, description="RATE of the link")] = math.inf
    delay: Annotated[Duration, Field(ge=0, le=60, description="TIME that a packet takes")] = 0.0
    jitter: Annotated[
        Duration, Field(ge=0, le=60, description="TIME by which the delay varies, evenly")
    ] = 0.0
    loss: Annotated[Percentage, Field(ge=0, lt=1, description="SHARE of packets that are lost")] = (
        0.0
    )
    reorder: Annotated[
        Percentage,
        Field(ge=0, lt=1, description="SHARE of packets that overtake: they have no delay"),
    ] = 0.0
    queue: Annotated[
        Annotated[Duration, Field(gt=0, le=60)] | None,
        Parameter(show_default=lambda value: "50ms or a round trip" if value is None else value),
        Field(description="TIME that packets may wait for the rate, then they are dropped"),
    ] = None

    @model_validator(mode="after")
    def _sense(self) -> Self:
        if not math.isinf(self.rate) and self.rate > MOST_RATE:
            raise ValueError(
                f"rate {format_rate(self.rate)} is above {format_rate(MOST_RATE)}:"
                " expected less, or unlimited"
            )
        if self.jitter > self.delay:
            raise ValueError(
                f"jitter {format_time(self.jitter)} is above delay {format_time(self.delay)}"
            )
        if self.reorder and not self.delay:
            raise ValueError("reorder needs a delay: a packet overtakes by having none")
        return self

    @property
    def only_rate(self) -> bool:
        """Whether a token bucket is enough to shape it."""
        return not (self.delay or self.loss or self.reorder)

    def words(self) -> str:
        """Describe it as options would: `rate 12.5MB/s, delay 10ms`.

        Returns:
            What differs from the defaults; `unshaped` where nothing does.
        """
        parts = [
            f"{name} {TEXTS[name](value)}"
            for name, value in self.model_dump(exclude_defaults=True).items()
        ]
        return ", ".join(parts) or "unshaped"


TEXTS: Final[dict[str, Any]] = {  # what writes a value, by its option's name
    "rate": format_rate,
    "delay": format_time,
    "jitter": format_time,
    "loss": format_share,
    "reorder": format_share,
    "queue": format_time,
}
NAMES: Final = tuple(Direction.model_fields)
RTT: Final = "rtt"  # another way to say a delay
KEYS: Final = (*NAMES, *(f"{name}-back" for name in NAMES))


_RoundTripTime = Annotated[Duration, Field(ge=0, le=120)]


class _RoundTrip(Options):
    rtt: _RoundTripTime


def _options() -> type[BaseModel]:
    """Make a model with an option for each field of `Direction`, and one for the way back."""
    fields: dict[str, Any] = {}
    for name, field in Direction.model_fields.items():
        fields[name] = (field.rebuild_annotation(), field)
    for name, field in Direction.model_fields.items():
        about = Field(description=f"{name} from the destination to the source, where it differs")
        kind: Any = field.rebuild_annotation()
        fields[f"{name}_back"] = (
            Annotated[kind | None, Parameter(show_default=False), about],
            None,
        )
    fields["rtt"] = (
        Annotated[
            _RoundTripTime | None,
            Parameter(show_default=False),
            Field(description="TIME of a round trip: a delay of half of it each way"),
        ],
        None,
    )
    return create_model("ShapeOptions", __base__=Options, **fields)


if TYPE_CHECKING:
    ShapeOptions = BaseModel
else:
    ShapeOptions = _options()


class Shape(BaseModel):
    """The two directions of a link.

    Attributes:
        forward: From the source to the destination.
        back: From the destination to the source.
    """

    model_config = MODEL

    forward: Direction = Direction()
    back: Direction = Direction()

    @property
    def round_trip_s(self) -> float:
        """What the delays of both directions add up to, in seconds."""
        return self.forward.delay + self.back.delay

    def queue_bytes(self, direction: Direction) -> int:
        """Compute how many bytes may wait for the rate of a direction.

        Args:
            direction: One of this shape's two.

        Returns:
            The most bytes; 0 where it has no rate, so that nothing waits.
        """
        if math.isinf(direction.rate):
            return 0
        queue_s = direction.queue or max(QUEUE_S, self.round_trip_s)
        return max(int(direction.rate * queue_s), LEAST_QUEUE)

    def changed(self, values: dict[str, str]) -> Shape:
        """Make the same shape with some values different.

        Args:
            values: Texts by option: `rate` is for both directions, `rate-back` for the way back;
                `rtt` is a delay of half of it each way.

        Returns:
            The new shape.

        Raises:
            UsageError: An option is unknown, or its value wrong.
        """
        values = halved(values)
        there = {name: value for name, value in values.items() if name in NAMES}
        back = there | {
            name.removesuffix("-back"): value
            for name, value in values.items()
            if name.removesuffix("-back") in NAMES and name.endswith("-back")
        }
        unknown = sorted(set(values) - set(KEYS))
        if unknown:
            raise UsageError(
                f"a link has no {unknown[0]!r}: expected {', '.join(NAMES)}, one of them with"
                f" -back, or {RTT}{hint(unknown[0], (*KEYS, RTT))}"
            )
        return Shape(
            forward=_direction(self.forward.model_dump() | there),
            back=_direction(self.back.model_dump() | back, among=values),
        )


def _direction(values: Mapping[str, Any], among: Mapping[str, str] | None = None) -> Direction:
    """Validate a direction. Raises `UsageError`.

    among: what was written, where a name's form with `-back` takes precedence.
    """
    try:
        return Direction.model_validate(values)
    except ValidationError as error:
        text = explain(error).removeprefix("--")
        name, colon, rest = text.partition(":")
        if among is not None and f"{name}-back" in among:
            name += "-back"
        raise UsageError(name + colon + rest) from None


def shape_of(options: BaseModel) -> Shape:
    """Make the shape that the options of a command describe.

    Args:
        options: A `ShapeOptions`.

    Returns:
        The shape.

    Raises:
        UsageError: The options contradict one another.
    """
    given = options.model_dump()
    if given.pop(RTT) is not None:
        if options.model_fields_set & {"delay", "delay_back"}:
            raise UsageError("--rtt is --delay both ways: expected one of the two")
        given["delay"] = getattr(options, RTT) / 2
    forward = {name: given[name] for name in NAMES}
    back = forward | {n: given[f"{n}_back"] for n in NAMES if given[f"{n}_back"] is not None}
    return Shape(forward=_direction(forward), back=_direction(back))


def hint(word: str, known: Iterable[str]) -> str:
    """Suggest a similar word for the end of a message.

    Args:
        word: The unknown word.
        known: The words that there are.

    Returns:
        `; did you mean delay?`, or nothing, where none is similar.
    """
    said = did_you_mean(word, known)
    return f"; {said}" if said else ""


def halved(values: Mapping[str, str]) -> dict[str, str]:
    """Replace `rtt` by a delay of half of it each way.

    Args:
        values: Texts by option; left unchanged.

    Returns:
        The same without `rtt`.

    Raises:
        UsageError: `rtt` can't be read, or a delay is there, too.
    """
    rest = dict(values)
    text = rest.pop(RTT, None)
    if text is None:
        return rest
    if given := [name for name in ("delay", "delay-back") if name in rest]:
        raise UsageError(f"{RTT} is {given[0]} both ways: expected one of the two")
    try:
        whole = _RoundTrip.model_validate({RTT: text})
    except ValidationError as error:
        raise UsageError(explain(error).removeprefix("--")) from None
    return rest | {"delay": format_time(whole.rtt / 2)}


def parse_pairs(text: str, what: str, bare: str = "rate") -> dict[str, str]:
    """Split `"rate=800mbit, delay=5ms"` into its parts.

    Args:
        text: What the user wrote.
        what: The option, for messages.
        bare: The key that a rate has which stands there alone.

    Returns:
        The values as texts, by key; neither is checked.

    Raises:
        UsageError: A part is no pair, or a key is there twice.
    """
    values: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = (word.strip() for word in part.partition("="))
        if name and not equals and reads_as(parse_rate, name):
            name, equals, value = bare, "=", name
        elif not equals and not name.isdigit() and reads_as(parse_size, name):
            raise UsageError(
                f"{what}: {name!r} is a size: expected a rate, which has a unit a second, as in"
                f" {name}/s or 800mbit"
            )
        if not (name and equals and value):
            raise UsageError(f"{what}: {_no_pair(part.strip())}")
        if name in values:
            raise UsageError(f"{what}: {name} is given twice")
        values[name] = value
    return values


def reads_as(parse: Callable[[str], float], text: str) -> bool:
    """Tell whether a text is written as a parser wants it.

    Args:
        parse: Raises `UnitError` for what it can't read.
        text: The text.

    Returns:
        Whether it is; a text with two readings is, if the parser says so (`UnitError.settled`).
    """
    try:
        parse(text)
    except UnitError as error:
        return error.settled
    return True


def _no_pair(part: str) -> str:
    example = f"delay={part} or rtt={part}" if reads_as(parse_time, part) else "rate=800mbit"
    return f"{part!r} is not NAME=VALUE: expected something like {example}"


def parse_shape(text: str) -> Shape:
    """Read `--net`: `rate=800mbit,delay=5ms,loss-back=1%`.

    Args:
        text: What the user wrote.

    Returns:
        The shape.

    Raises:
        UsageError: An option is unknown, or its value wrong.
    """
    values = parse_pairs(text, "--net")
    try:
        return Shape().changed(values)
    except UsageError as error:
        raise UsageError(f"--net: {error}") from None
