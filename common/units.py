"""Sizes, rates, times and shares as people write them, to numbers and back.

Sizes are bytes (binary suffixes `KiB MiB GiB TiB`, decimal `kB MB GB TB`), rates are bytes per
second (decimal `100MB/s`, or bits as tc writes them: `800mbit`, `10gbit/s`), times are seconds
(`300ms`, `2s`, `1m`: a minute), shares are fractions of one (`10%` or `0.1`).

What two tools of this field read in two ways is refused, with both readings: `10gbps` (bytes for
tc, bits for most others), `10G` as a rate (bytes for QEMU, bits for iperf3), `10Gb/s` (a small b is
a bit for most), and `0.1` where tc means percent. Every parser raises `UnitError`, which says what
was expected.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction
from typing import Final

from pageferry.common.command_line.suggestions import nearest

PAGE_SIZE: Final = 4096
LINE_SIZE: Final = 64  # the granularity of the dirty log: one bit in a page's 64-bit mask
LINES_PER_PAGE: Final = PAGE_SIZE // LINE_SIZE

_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z%/µ]*)\s*")
_SHOWN: Final = 60  # characters of a text in a complaint
_RATE_EXAMPLE: Final = "100MB/s, 800mbit or unlimited"
_TIME_EXAMPLE: Final = "300ms or 2s"
_SHARE_EXAMPLE: Final = "10% or 0.1"

_SIZES: Final = {
    "": 1,
    "b": 1,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "k": 2**10,  # as QEMU's -m reads them
    "m": 2**20,
    "g": 2**30,
    "t": 2**40,
}
_RATES: Final = {
    "b/s": Fraction(1),
    "kb/s": Fraction(10**3),
    "mb/s": Fraction(10**6),
    "gb/s": Fraction(10**9),
    "tb/s": Fraction(10**12),
    "kib/s": Fraction(2**10),
    "mib/s": Fraction(2**20),
    "gib/s": Fraction(2**30),
    "tib/s": Fraction(2**40),
    "bit": Fraction(1, 8),
    "kbit": Fraction(10**3, 8),
    "mbit": Fraction(10**6, 8),
    "gbit": Fraction(10**9, 8),
    "tbit": Fraction(10**12, 8),
    "kibit": Fraction(2**10, 8),
    "mibit": Fraction(2**20, 8),
    "gibit": Fraction(2**30, 8),
    "tibit": Fraction(2**40, 8),
}
_TIMES: Final = {
    "us": Fraction(1, 10**6),
    "usec": Fraction(1, 10**6),
    "usecs": Fraction(1, 10**6),
    "µs": Fraction(1, 10**6),
    "ms": Fraction(1, 10**3),
    "msec": Fraction(1, 10**3),
    "msecs": Fraction(1, 10**3),
    "s": Fraction(1),
    "sec": Fraction(1),
    "secs": Fraction(1),
    "m": Fraction(60),
    "min": Fraction(60),
    "h": Fraction(3600),
}
_LONGEST: Final = 400  # digits; the longest that a float formats to is 343

# Units of a rate that have two readings: `10G`, `10gbps`, `10Gb/s`.
_BARE: Final = re.compile(r"[kmgt]i?")
_PER_SECOND: Final = re.compile(r"((?:[kmgt]i?)?)(?:bps|b/s|b/sec|b)")


class UnitError(ValueError):
    """A text that is not the size, rate, time or share that was expected.

    Args:
        problem: What is wrong with the text.
        expected: What was expected, which ends the message.
        settled: Whether `expected` is all the advice there is; otherwise, an option that has a
            range may state that instead.
    """

    def __init__(self, problem: str, expected: str, *, settled: bool = False) -> None:
        super().__init__(f"{problem}: expected {expected}")
        self.problem = problem
        self.expected = expected
        self.settled = settled


def _short(text: str) -> str:
    """Quote a text for a complaint, cut off where it is long."""
    return repr(text) if len(text) <= _SHOWN else f"{text[:20]!r}..."


def _split(text: str, what: str, example: str) -> tuple[str, Fraction, str]:
    """Split a text into number and unit; return the number's text, its value and the unit.

    The value is exactly what was written (35 ms are 35/1000 s and not 35 * 0.001), the unit is as
    it was written.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise UnitError(f"{_short(text)} is not a {what}", f"something like {example}")
    if len(match[1]) > _LONGEST:
        raise UnitError(f"{text[:20]!r}... has too many digits for a {what}", f"fewer ({example})")
    return match[1], Fraction(match[1]), match[2]


def _float(number: Fraction, text: str, what: str, example: str) -> float:
    """Return the nearest float; raise `UnitError` where there is none."""
    try:
        return float(number)
    except OverflowError:
        problem = f"{_short(text)} is too large for a {what}"
        raise UnitError(problem, f"something like {example}") from None


def parse_size(text: str) -> int:
    """Parse a size: `"4MiB"` to 4194304.

    Args:
        text: A number and a unit, in either case. No unit means bytes; K, M, G, T are binary, as in
            QEMU's -m.

    Returns:
        Bytes, below 2**63.

    Raises:
        UnitError: It is no size, or not a whole number of bytes.
    """
    example = "512MiB or 1GiB"
    _, number, unit = _split(text, "size", example)
    if unit.lower() not in _SIZES:
        raise UnitError(
            f"{_short(text)} is not a size: unknown unit, expected KiB, MiB, GiB, kB, MB or GB",
            f"something like {example}",
        )
    size = number * _SIZES[unit.lower()]
    if size.denominator != 1:
        raise UnitError(f"{_short(text)} is not a whole number of bytes", example)
    if size >= 2**63:
        raise UnitError(f"{_short(text)} is too large for a size", f"something like {example}")
    return int(size)


def parse_rate(text: str) -> float:
    """Parse a rate: `"100MB/s"` or `"800mbit"` to 1e8, `"unlimited"` to infinity.

    Args:
        text: A number and a unit, or `unlimited`, or `max`. Units that tools read in two ways are
            refused.

    Returns:
        Bytes per second, above 0; infinity: no limit.

    Raises:
        UnitError: It is no rate, is zero, or has two readings.
    """
    word = text.strip().lower()
    if word in ("unlimited", "max"):
        return math.inf
    if nearest(word, ("unlimited",)) and not word.startswith("un "):
        raise UnitError(f"{_short(text)} is not a rate", "unlimited", settled=True)
    digits, number, unit = _split(text, "rate", _RATE_EXAMPLE)
    if number == 0:
        raise UnitError(f"{_short(text)} is zero, which is no rate", "more than zero, or unlimited")
    unit = _rate_unit(digits, unit, text)
    if unit not in _RATES:
        raise UnitError(
            f"{_short(text)} is not a rate: unknown unit", f"something like {_RATE_EXAMPLE}"
        )
    rate = _float(number * _RATES[unit], text, "rate", _RATE_EXAMPLE)
    if rate <= 0:
        raise UnitError(f"{_short(text)} is zero, which is no rate", "more than zero, or unlimited")
    return rate


def _rate_unit(digits: str, unit: str, text: str) -> str:
    """Write the unit as `_RATES` has it; raise `UnitError` where it has two readings."""
    small = unit.lower()
    if _BARE.fullmatch(small):
        bits = f"{digits}{small}bit"
        binary = f"{digits}{small[0].upper()}iB/s"
        decimal = "" if small.endswith("i") else f"{digits}{_prefix(small)}B/s, "
        raise _two_readings(
            text, f"QEMU ({binary})", f"iperf3 ({bits})", f"{decimal}{binary}", bits
        )
    found = _PER_SECOND.fullmatch(small)
    if found and (small.endswith("ps") or "b" in unit):
        prefix = found[1]
        bits, size = f"{digits}{prefix}bit", f"{digits}{_prefix(prefix)}B/s"
        tools = ("tc and QEMU", "iperf3") if small.endswith("ps") else ("some", "most")
        raise _two_readings(text, f"{tools[0]} ({size})", f"{tools[1]} ({bits})", size, bits)
    if small and small in _SIZES:
        raise UnitError(
            f"{_short(text)} is not a rate but a size", f"something like {_RATE_EXAMPLE}"
        )
    small = small.replace("/sec", "/s").replace("bits", "bit").replace("bytes/", "b/")
    return small.removesuffix("/s") if small.endswith("bit/s") else small


def _prefix(small: str) -> str:
    """Write a prefix in the case that bytes have: `kB` and `KiB`, `GB` and `GiB`."""
    return small if small in ("", "k") else small[:1].upper() + small[1:]


def _two_readings(text: str, larger: str, smaller: str, size: str, bits: str) -> UnitError:
    """Make the error that names both readings of a rate."""
    problem = f"{_short(text)} is read in two ways: as bytes by {larger}, as bits by {smaller}"
    return UnitError(problem, f"{size} or {bits}", settled=True)


def parse_time(text: str) -> float:
    """Parse a time: `"300ms"` to 0.3.

    Args:
        text: A number and a unit: us, ms, s, m or min (minutes), h. Only 0 needs no unit.

    Returns:
        Seconds.

    Raises:
        UnitError: It is no time.
    """
    _, number, unit = _split(text, "time", _TIME_EXAMPLE)
    if unit.lower() not in _TIMES:
        if unit == "" and number == 0:
            return 0.0
        raise UnitError(f"{_short(text)} is not a time", "a unit, as in 300ms, 2s or 1m")
    return _float(number * _TIMES[unit.lower()], text, "time", _TIME_EXAMPLE)


def parse_share(text: str) -> float:
    """Parse a share: `"10%"` or `"0.1"` to 0.1.

    Args:
        text: A number with or without the percent sign.

    Returns:
        A fraction from 0 to 1.

    Raises:
        UnitError: It is no share, or more than 100%.
    """
    digits, number, unit = _split(text, "share", _SHARE_EXAMPLE)
    if unit not in ("", "%"):
        raise UnitError(f"{_short(text)} is not a share", f"something like {_SHARE_EXAMPLE}")
    share = number / 100 if unit == "%" else number
    if share > 1:
        meant = f", and {digits}% if that is meant" if unit == "" and number <= 100 else ""
        raise UnitError(f"{_short(text)} is not a share", f"0 to 100%{meant}", settled=True)
    return _float(share, text, "share", _SHARE_EXAMPLE)


def parse_percentage(text: str) -> float:
    """Parse a share that has to be written in percent: `"0.1%"` to 0.001.

    Args:
        text: A number with the sign. Without it tc reads percent and others a fraction: only 0 is
            accepted.

    Returns:
        A fraction from 0 to 1.

    Raises:
        UnitError: It is no share, more than 100%, or has two readings.
    """
    digits, number, unit = _split(text, "share", "0.1%")
    if unit == "" and number != 0:
        share = f"{_scaled(float(digits), 2)}%" if len(digits) < 40 else f"{digits} times 100%"
        readings = [f"{digits}%"] * (number <= 100) + [share] * (number <= 1)
        raise UnitError(
            f"{_short(text)} is read in two ways: as {digits}% by tc, by others as {share}",
            " or ".join(readings) or "0% to 100%",
            settled=True,
        )
    return parse_share(text)


def _scaled(number: float, power: int) -> str:
    """Write `number * 10**power` exactly, from the shortest decimal that reads back as `number`."""
    text = f"{Decimal(repr(float(number))).scaleb(power):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def format_size(size: int) -> str:
    """Format a size exactly: `parse_size(format_size(n)) == n`.

    Args:
        size: Bytes, not negative.

    Returns:
        In the largest binary unit in which it is a whole number: `64MiB`, `1000B`.
    """
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"


def format_rate(rate: float) -> str:
    """Format a rate exactly: `parse_rate(format_rate(r)) == r`.

    Args:
        rate: Bytes per second, above 0; infinity: no limit.

    Returns:
        In the largest decimal unit of which there is at least one: `100MB/s`; or `unlimited`.
    """
    if math.isinf(rate):
        return "unlimited"
    for unit, power in (("GB/s", 9), ("MB/s", 6), ("kB/s", 3)):
        if rate >= 10**power:
            return _scaled(rate, -power) + unit
    return _scaled(rate, 0) + "B/s"


def format_time(seconds: float) -> str:
    """Format a time exactly: `parse_time(format_time(t)) == t`.

    Args:
        seconds: Not negative.

    Returns:
        In s, ms or us: `300ms`.
    """
    if seconds >= 1 or seconds == 0:
        return _scaled(seconds, 0) + "s"
    if seconds >= 1e-3:
        return _scaled(seconds, 3) + "ms"
    return _scaled(seconds, 6) + "us"


def spoken_time(seconds: float) -> str:
    """Format a time like `format_time`, but whole minutes and hours as such: `24h`.

    Args:
        seconds: Not negative.

    Returns:
        A text that `parse_time` reads back.
    """
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g}{unit}" if seconds < 1e9 else format_time(seconds)
    return format_time(seconds)


def format_share(share: float) -> str:
    """Format a share exactly: `parse_share(format_share(s)) == s`.

    Args:
        share: A fraction from 0 to 1.

    Returns:
        In percent: `12.5%`.
    """
    return _scaled(share, 2) + "%"


def figures(number: float, digits: int) -> str:
    """Format a number for people, without an exponent for large numbers: `10,990`.

    Args:
        number: Any finite number.
        digits: How many significant digits to show at least. From 1000 on, all digits before the
            point are shown.

    Returns:
        The number, thousands separated by commas.
    """
    short = f"{number:.{digits}g}"
    return f"{number:,.0f}" if "e+" in short or abs(number) >= 1000 else short


def human_bytes(size: float) -> str:
    """Format bytes for people, decimal, with three digits: `537 MB`.

    Args:
        size: Bytes, not negative.

    Returns:
        In B, kB, MB or GB; from 1000 GB on with more digits.
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        number = size / factor
        if number >= 999.5:  # three digits would give 1e+03; only GB get here
            return f"{number:,.0f} {unit}"
        if number >= 0.9995:  # what rounds to 1 is given in the larger unit
            return f"{number:.3g} {unit}"
    return f"{size:.0f} B"
