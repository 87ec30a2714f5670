"""Sizes, rates, times and shares as people write them, to numbers and back.

Sizes are bytes (binary suffixes `KiB MiB GiB TiB`, decimal `kB MB GB TB`), rates are bytes per
second (decimal `100MB/s`, or bits as tc writes them: `800mbit`, `10gbit`), times are seconds
(`300ms`, `2s`, `1m`), shares are fractions of one (`10%` or `0.1`). Every parser raises
`ValueError` with a message that says what was expected.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction
from typing import Final

PAGE_SIZE: Final = 4096
LINE_SIZE: Final = 64  # the granularity of the dirty log: one bit of a page's 64-bit mask
LINES_PER_PAGE: Final = PAGE_SIZE // LINE_SIZE

_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z%/µ]*)\s*")

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
    "kib/s": Fraction(2**10),
    "mib/s": Fraction(2**20),
    "gib/s": Fraction(2**30),
    "bit": Fraction(1, 8),
    "kbit": Fraction(10**3, 8),
    "mbit": Fraction(10**6, 8),
    "gbit": Fraction(10**9, 8),
}
_TIMES: Final = {
    "us": Fraction(1, 10**6),
    "µs": Fraction(1, 10**6),
    "ms": Fraction(1, 10**3),
    "s": Fraction(1),
    "m": Fraction(60),
    "min": Fraction(60),
    "h": Fraction(3600),
}
_LONGEST: Final = 400  # digits; the longest that a float formats to is 343


def _split(text: str, what: str, example: str) -> tuple[Fraction, str]:
    """The number, exactly as written (35 ms are 35/1000 s and not 35 * 0.001), and the unit."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a {what}: expected something like {example}")
    if len(match[1]) > _LONGEST:
        raise ValueError(f"{text[:20]!r}... has too many digits for a {what}")
    return Fraction(match[1]), match[2].lower()


def _float(number: Fraction, text: str, what: str) -> float:
    """The nearest float."""
    try:
        return float(number)
    except OverflowError:
        raise ValueError(f"{text!r} is too large for a {what}") from None


def parse_size(text: str) -> int:
    """`"4MiB"` to 4194304 (bytes). Raises `ValueError`."""
    number, unit = _split(text, "size", "512MiB or 1GiB")
    if unit not in _SIZES:
        raise ValueError(
            f"{text!r} is not a size: unknown unit, expected KiB, MiB, GiB, kB, MB or GB"
        )
    size = number * _SIZES[unit]
    if size.denominator != 1:
        raise ValueError(f"{text!r} is not a whole number of bytes")
    if size >= 2**63:
        raise ValueError(f"{text!r} is too large for a size")
    return int(size)


def parse_rate(text: str) -> float:
    """`"100MB/s"` to 1e8, `"800mbit"` to 1e8, `"unlimited"` to infinity (bytes/s)."""
    if text.strip().lower() in ("unlimited", "max"):
        return math.inf
    number, unit = _split(text, "rate", "100MB/s, 800mbit or unlimited")
    if number == 0:
        raise ValueError(f"{text!r} is not a rate: expected more than zero")
    if unit not in _RATES:
        raise ValueError(
            f"{text!r} is not a rate: unknown unit,"
            " expected something like 100MB/s, 800mbit or unlimited"
        )
    rate = _float(number * _RATES[unit], text, "rate")
    if rate <= 0:
        raise ValueError(f"{text!r} is not a rate: expected more than zero")
    return rate


def parse_time(text: str) -> float:
    """`"300ms"` to 0.3 (seconds)."""
    number, unit = _split(text, "time", "300ms or 2s")
    if unit not in _TIMES:
        if unit == "" and number == 0:
            return 0.0
        raise ValueError(f"{text!r} is not a time: expected a unit, as in 300ms, 2s or 1m")
    return _float(number * _TIMES[unit], text, "time")


def parse_share(text: str) -> float:
    """`"10%"` or `"0.1"` to 0.1; refused outside 0 to 1."""
    number, unit = _split(text, "share", "10% or 0.1")
    if unit not in ("", "%"):
        raise ValueError(f"{text!r} is not a share: expected something like 10% or 0.1")
    share = _float(number / 100 if unit == "%" else number, text, "share")
    if not 0 <= share <= 1:
        raise ValueError(f"{text!r} is not a share: expected 0 to 100%")
    return share


def _scaled(number: float, power: int) -> str:
    """`number * 10**power`, exactly, of the shortest decimal that reads back as `number`."""
    text = f"{Decimal(repr(float(number))).scaleb(power):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def format_size(size: int) -> str:
    """Exact: `parse_size(format_size(n)) == n`."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"


def format_rate(rate: float) -> str:
    """Exact: `parse_rate(format_rate(r)) == r`."""
    if math.isinf(rate):
        return "unlimited"
    for unit, power in (("GB/s", 9), ("MB/s", 6), ("kB/s", 3)):
        if rate >= 10**power:
            return _scaled(rate, -power) + unit
    return _scaled(rate, 0) + "B/s"


def format_time(seconds: float) -> str:
    """Exact: `parse_time(format_time(t)) == t`."""
    if seconds >= 1 or seconds == 0:
        return _scaled(seconds, 0) + "s"
    if seconds >= 1e-3:
        return _scaled(seconds, 3) + "ms"
    return _scaled(seconds, 6) + "us"


def format_share(share: float) -> str:
    """Exact: `parse_share(format_share(s)) == s`."""
    return _scaled(share, 2) + "%"


def human_bytes(size: float) -> str:
    """For people to read, decimal, three digits: `537 MB`."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        number = size / factor
        if number >= 999.5:  # three digits would say 1e+03; only GB come here
            return f"{number:,.0f} {unit}"
        if number >= 0.9995:  # what rounds to 1 is said in the larger unit
            return f"{number:.3g} {unit}"
    return f"{size:.0f} B"
