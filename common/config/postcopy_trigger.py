"""`--postcopy-after`: when a hybrid migration switches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pageferry.common.command_line.suggestions import did_you_mean
from pageferry.common.units import UnitError, format_time, parse_time


@dataclass(frozen=True, slots=True)
class Trigger:
    """kind: what is counted; amount: rounds or seconds (0 for `stall`)."""

    kind: Literal["rounds", "time", "stall"]
    amount: float = 0

    def __str__(self) -> str:
        if self.kind == "stall":
            return "stall"
        if self.kind == "time":
            return f"time={format_time(self.amount)}"
        return f"rounds={self.amount:.0f}"


def parse_trigger(text: str) -> Trigger:
    """`rounds=2`, `time=3s` or `stall`. Raises `ValueError`."""
    kind, _, value = text.partition("=")
    if text == "stall":
        return Trigger("stall")
    if kind == "rounds" and value.isascii() and value.isdigit() and int(value) <= 1000:
        return Trigger("rounds", int(value))
    if kind == "time" and value:
        return Trigger("time", _time(text, value))
    if kind == "rounds" and value:
        raise ValueError(f"{text!r}: expected rounds=0 to rounds=1000")
    hint = did_you_mean(kind, ("rounds", "time", "stall"))
    raise ValueError(f"{text!r}: expected rounds=N, time=T or stall{hint and f'; {hint}'}")


def _time(text: str, value: str) -> float:
    try:
        return parse_time(value)
    except UnitError as error:
        raise ValueError(f"{text!r}: {error}") from None
