"""What an option of a workload may be: how it is written, read, and described.

Every reader raises `ValueError` with a message that says what was expected, its range included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pageferry.common.command_line.suggestions import did_you_mean
from pageferry.common.errors import UsageError
from pageferry.common.units import (
    LINES_PER_PAGE,
    PAGE_SIZE,
    format_share,
    format_size,
    parse_rate,
    parse_share,
    parse_size,
    parse_time,
)
from pageferry.common.workload.mixes import MIXES, Mix
from pageferry.common.workload.region import Region

_MIX: Final = "mix:"


@dataclass(frozen=True)
class Extent:
    """A working set as it was written: bytes of the whole guest, or a share.

    Attributes:
        size: Bytes, of all vCPUs together; None: `share` counts.
        share: Share of memory, 0 to 1.
    """

    size: int | None = None
    share: float = 1.0

    def __str__(self) -> str:
        return format_share(self.share) if self.size is None else format_size(self.size)

    @property
    def empty(self) -> bool:
        """Whether it is nothing at all."""
        return self.size == 0 or (self.size is None and self.share == 0)

    def pages(self, region: Region) -> int:
        """Return how many pages of one vCPU's region it is.

        Args:
            region: The vCPU's part of the guest.

        Returns:
            From 1 to `region.pages`, also for an empty extent.

        Raises:
            UsageError: A size that is more than the guest has.
        """
        if self.size is None:
            return max(1, round(self.share * region.pages))
        wanted = -(-self.size // (PAGE_SIZE * region.vcpus))
        if wanted > region.pages + 1:  # regions differ by a page where vCPUs do not divide memory
            raise UsageError(
                f"a workload's working set of {format_size(self.size)} does not fit in the guest"
            )
        return max(1, min(wanted, region.pages))


@dataclass(frozen=True)
class Reader:
    """How an option's value is written and read.

    Attributes:
        parse: Text to value; raises `ValueError`.
        form: How a person writes it, as in `SIZE|SHARE`.
        range: What it may be, in words.
        unit: The value's unit, in words.
        suffix: The same, as the end of a column's name (`_Bps`, `_s`).
        as_text: Whether values are of several types, so that a column of them holds what was
            written.
    """

    parse: Callable[[str], Any]
    form: str
    range: str
    unit: str = ""
    suffix: str = ""
    as_text: bool = False


@dataclass(frozen=True)
class Option:
    """An option of a workload.

    Attributes:
        default: As a user would write it.
        reader: How its value is written and read.
        meaning: What it means, in a phrase.
    """

    default: str
    reader: Reader
    meaning: str

    @property
    def parse(self) -> Callable[[str], Any]:
        """Text to value; raises `ValueError`."""
        return self.reader.parse


def _extent(text: str) -> Extent:
    if text.strip().endswith("%"):
        return Extent(share=parse_share(text))
    try:
        return Extent(share=parse_share(text))
    except ValueError:
        pass
    try:
        return Extent(size=parse_size(text))
    except ValueError as error:
        raise ValueError(f"{error}, or a share of memory, as in 50% or 0.5") from None


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"{text!r} is neither true nor false")
    return text == "true"


def whole(low: int, high: int, unit: str) -> Reader:
    """Make a reader of whole numbers.

    Args:
        low: The least that is allowed, not negative.
        high: The most that is allowed.
        unit: Of the number, in words.

    Returns:
        A reader whose values are int.
    """

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 20 and low <= int(text) <= high):
            raise ValueError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return Reader(parse, "N", f"{low} to {high}", unit)


def number(low: float, high: float) -> Reader:
    """Make a reader of decimal numbers.

    Args:
        low: The least that is allowed.
        high: The most that is allowed.

    Returns:
        A reader whose values are float.
    """

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise ValueError(f"{text!r} is not a number from {low:g} to {high:g}")
        return value

    return Reader(parse, "NUMBER", f"{low:g} to {high:g}")


def _period(text: str) -> float:
    seconds = parse_time(text)
    if not 1e-3 <= seconds <= 3600:
        raise ValueError(f"{text!r} is out of range: expected 1ms to 1h")
    return seconds


def _visit_rate(text: str) -> float:
    rate = parse_rate(text)
    if rate < 1:
        raise ValueError(f"{text!r} is too slow: expected at least 1B/s")
    return rate


_some_lines: Final = whole(1, LINES_PER_PAGE, "lines")


def _lines_or_mix(text: str) -> int | Mix:
    if text.startswith(_MIX):
        name = text.removeprefix(_MIX)
        if name in MIXES:
            return MIXES[name]
        near = did_you_mean(name, MIXES) or f"expected one of {', '.join(MIXES)}"
        raise ValueError(f"{text!r} is no mixture that was measured: {near}")
    try:
        value: int = _some_lines.parse(text)
    except ValueError as error:
        raise ValueError(f"{error}, or mix:NAME with one of {', '.join(MIXES)}") from None
    return value


EXTENT: Final = Reader(
    _extent, "SIZE|SHARE", "0% to 100% of memory", "bytes, or a share of memory", as_text=True
)
SHARE: Final = Reader(parse_share, "SHARE", "0% to 100%", "share")
FLAG: Final = Reader(_flag, "true|false", "true or false")
RATE: Final = Reader(
    _visit_rate, "RATE", "1B/s or more, or max: flat out", "bytes a second", "_Bps"
)
PERIOD: Final = Reader(_period, "TIME", "1ms to 1h", "seconds", "_s")
LINES: Final = _some_lines
LINES_OR_MIX: Final = Reader(
    _lines_or_mix,
    "N|mix:NAME",
    f"1 to {LINES_PER_PAGE}, or mix: with one of {', '.join(MIXES)}",
    "lines",
    as_text=True,
)


def content() -> Mapping[str, Option]:
    """Make the options that say what memory holds at the start.

    Of each page that is not zero a share is random (which does not compress), and the rest is one
    word of that page, repeated.

    Returns:
        The options `zero-share` and `entropy`, whose values are from 0 to 1.
    """
    return {
        "zero-share": Option("0%", SHARE, "share of memory that is zero at the start"),
        "entropy": Option(
            "100%", SHARE, "share of each other page that is random, so that it does not compress"
        ),
    }
