"""Sizes, rates, times and shares as people write them, to numbers and back.

Sizes are bytes (binary suffixes `KiB MiB GiB TiB`, decimal `kB MB GB TB`), rates are bytes per
second (decimal `100MB/s`, or bits as tc writes them: `800mbit`, `10gbit`), times are seconds
(`300ms`, `2s`, `1m`), shares are fractions of one (`10%` or `0.1`). Every parser raises
`ValueError` with a message that says what was expected.
"""

from __future__ import annotations

import math
import re
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
    "b/s": 1.0,
    "kb/s": 1e3,
    "mb/s": 1e6,
    "gb/s": 1e9,
    "kib/s": 2.0**10,
    "mib/s": 2.0**20,
    "gib/s": 2.0**30,
    "bit": 1 / 8,
    "kbit": 1e3 / 8,
    "mbit": 1e6 / 8,
    "gbit": 1e9 / 8,
}
_TIMES: Final = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def _split(text: str, what: str, example: str) -> tuple[float, str]:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a {what}: expected something like {example}")
    number = float(match[1])
    if not math.isfinite(number):
        raise ValueError(f"{text!r} is too large for a {what}")
    return number, match[2].lower()


def parse_size(text: str) -> int:
    """`"4MiB"` to 4194304 (bytes). Raises `ValueError`."""
    number, unit = _split(text, "size", "512MiB or 1GiB")
    if unit not in _SIZES:
        raise ValueError(
            f"{text!r} is not a size: unknown unit, expected KiB, MiB, GiB, kB, MB or GB"
        )
    size = number * _SIZES[unit]
    if size != int(size):
        raise ValueError(f"{text!r} is not a whole number of bytes")
    if size >= 2**63:
        raise ValueError(f"{text!r} is too large for a size")
    return int(size)


def parse_rate(text: str) -> float:
    """`"100MB/s"` to 1e8, `"800mbit"` to 1e8, `"unlimited"` to infinity (bytes/s)."""
    if text.strip().lower() in ("unlimited", "max"):
        return math.inf
    number, unit = _split(text, "rate", "100MB/s, 800mbit or unlimited")
    if unit not in _RATES:
        raise ValueError(
            f"{text!r} is not a rate: unknown unit, expected something like 100MB/s, 800mbit or unlimited"
        )
    rate = number * _RATES[unit]
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
    return number * _TIMES[unit]


def parse_share(text: str) -> float:
    """`"10%"` or `"0.1"` to 0.1; refused outside 0 to 1."""
    number, unit = _split(text, "share", "10% or 0.1")
    if unit not in ("", "%"):
        raise ValueError(f"{text!r} is not a share: expected something like 10% or 0.1")
    share = number / 100 if unit == "%" else number
    if not 0 <= share <= 1:
        raise ValueError(f"{text!r} is not a share: expected 0 to 100%")
    return share


def _shortest(number: float) -> str:
    return f"{number:.10g}"


def format_size(size: int) -> str:
    """Exact: `parse_size(format_size(n)) == n`."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"


def format_rate(rate: float) -> str:
    """`parse_rate(format_rate(r))` is `r` to ten digits."""
    if math.isinf(rate):
        return "unlimited"
    for unit in ("GB/s", "MB/s", "kB/s"):
        factor = _RATES[unit.lower()]
        if rate >= factor:
            return f"{_shortest(rate / factor)}{unit}"
    return f"{_shortest(rate)}B/s"


def format_time(seconds: float) -> str:
    """`parse_time(format_time(t))` is `t` to ten digits."""
    if seconds >= 1 or seconds == 0:
        return f"{_shortest(seconds)}s"
    if seconds >= 1e-3:
        return f"{_shortest(seconds * 1e3)}ms"
    return f"{seconds * 1e6:.10f}".rstrip("0").rstrip(".") + "us"


def format_share(share: float) -> str:
    """`parse_share(format_share(s))` is `s` to ten digits."""
    return f"{share * 100:.10f}".rstrip("0").rstrip(".") + "%"


def human_bytes(size: float) -> str:
    """For people to read, decimal, three digits: `537 MB`."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return (
                f"{size / factor:.3g} {unit}"
                if size < 1000 * factor
                else f"{size / factor:,.0f} {unit}"
            )
    return f"{size:.0f} B"
