"""`--postcopy-after`: when a hybrid migration switches."""

from __future__ import annotations

from typing import Literal, Self

from pageferry.common.command_line.suggestions import did_you_mean
from pageferry.common.config.parsed_text import ParsedText
from pageferry.common.units import UnitError, format_time, parse_time

TriggerKind = Literal["rounds", "time", "stall"]


class Trigger(ParsedText):
    """A trigger as it was written, and what it means.

    Args:
        text: `rounds=2`, `time=3s` or `stall`.

    Attributes:
        kind: What is counted.
        amount: Rounds (0 to 1000) or seconds; 0 for `stall`.

    Raises:
        ValueError: The text is none of these.
    """

    kind: TriggerKind
    amount: float

    def __new__(cls, text: str) -> Self:
        """Parse the text."""
        self = super().__new__(cls, text)
        self.kind, self.amount = _parse(text)
        return self

    @property
    def spelled(self) -> str:
        """The trigger as this project writes it, whatever unit was chosen."""
        if self.kind == "stall":
            return "stall"
        if self.kind == "time":
            return f"time={format_time(self.amount)}"
        return f"rounds={self.amount:.0f}"


def _parse(text: str) -> tuple[TriggerKind, float]:
    """Return what is counted, and how much of it."""
    kind, _, value = text.partition("=")
    if text == "stall":
        return "stall", 0
    if kind == "rounds" and value.isascii() and value.isdigit() and int(value) <= 1000:
        return "rounds", int(value)
    if kind == "time" and value:
        return "time", _time(text, value)
    if kind == "rounds" and value:
        raise ValueError(f"{text!r}: expected rounds=0 to rounds=1000")
    hint = did_you_mean(kind, ("rounds", "time", "stall"))
    raise ValueError(f"{text!r}: expected rounds=N, time=T or stall{hint and f'; {hint}'}")


def _time(text: str, value: str) -> float:
    """Parse a time; name the whole text where it is none."""
    try:
        return parse_time(value)
    except UnitError as error:
        raise ValueError(f"{text!r}: {error}") from None
