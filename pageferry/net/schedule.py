"""What happens to a link, and when: `at 3s rate=10mbit; at 5s outage=2s`.

A schedule is folded into moments beforehand: each says what the whole link is from there on, so
that whoever carries it out needs no memory. Pure; times are seconds from the schedule's start.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from pageferry.common.errors import UsageError
from pageferry.common.units import format_time, parse_time
from pageferry.net.shape import MODEL, Shape, parse_pairs

_MOST_STEPS: Final = 400  # the keeper's lines about them fit in a pipe that is read at the end
_EXAMPLE: Final = "at 3s rate=10mbit; at 5s outage=2s"


@dataclass(frozen=True, slots=True)
class Step:
    """One part of a schedule.

    Attributes:
        at_s: When, in seconds from the schedule's start.
        changes: The values that change, as texts by option.
        outage_s: For how long nothing gets through; 0 is not at all.
        words: What the user wrote, without the time.
    """

    at_s: float
    changes: dict[str, str]
    outage_s: float
    words: str


class Moment(BaseModel):
    """What the link is from a moment on.

    Attributes:
        at_s: When, in seconds from the schedule's start.
        shape: The whole link.
        outage: Whether nothing gets through.
        words: What made it so, as the user wrote it.
    """

    model_config = MODEL

    at_s: float
    shape: Shape
    outage: bool = False
    words: str


def parse_schedule(texts: Iterable[str]) -> list[Step]:
    """Read a schedule.

    Args:
        texts: What the user wrote: each one part, or several with semicolons between them.

    Returns:
        Its parts, in order of time.

    Raises:
        UsageError: A part can't be read, or there are more than 400.
    """
    parts = [part.strip() for text in texts for part in text.split(";")]
    if len(parts) > _MOST_STEPS:
        raise UsageError(f"--schedule: {len(parts)} parts: expected {_MOST_STEPS} at the most")
    return sorted((_step(part) for part in parts if part), key=lambda step: step.at_s)


def _step(text: str) -> Step:
    words = text.split(None, 1)
    if words[0] == "at":
        words = words[1].split(None, 1) if len(words) == 2 else []
    if len(words) != 2:
        raise UsageError(f"--schedule: {text!r}: expected something like {_EXAMPLE!r}")
    try:
        at_s = parse_time(words[0])
        changes = parse_pairs(words[1], "--schedule")
        outage_s = parse_time(changes.pop("outage")) if "outage" in changes else 0.0
    except ValueError as error:
        raise UsageError(f"--schedule: {text!r}: {error}") from None
    if outage_s == 0 and not changes:
        raise UsageError(f"--schedule: {text!r}: an outage of no time: expected more than 0s")
    return Step(at_s, changes, outage_s, words[1])


def schedule_moments(shape: Shape, steps: Iterable[Step]) -> list[Moment]:
    """Fold a schedule into the moments at which the link becomes another one.

    Args:
        shape: What the link is at first.
        steps: The schedule, in order of time.

    Returns:
        The moments, in order of time; the ends of outages are among them.

    Raises:
        UsageError: A change makes no sense for the link as it is then.
    """
    steps = list(steps)
    ends = [(step.at_s, step.at_s + step.outage_s) for step in steps if step.outage_s]
    shapes: list[tuple[float, Shape]] = []
    for step in steps:
        if step.changes:
            try:
                shape = shape.changed(step.changes)
            except UsageError as error:
                raise UsageError(f"--schedule: at {format_time(step.at_s)}: {error}") from None
        shapes.append((step.at_s, shape))
    said = [(step.at_s, step.words) for step in steps]
    said += [(end, "outage over") for _, end in ends if not any(a <= end < b for a, b in ends)]
    moments: list[Moment] = []
    for at_s in sorted({when for when, _ in said}):
        moments.append(
            Moment(
                at_s=at_s,
                shape=[s for when, s in shapes if when <= at_s][-1],
                outage=any(start <= at_s < end for start, end in ends),
                words=", ".join(dict.fromkeys(words for when, words in said if when == at_s)),
            )
        )
    return moments
