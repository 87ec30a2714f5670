"""Figures as people read them: times, shares, sizes, rates and counts."""

from __future__ import annotations

import math

from pageferry.common.report.summary import NOTHING
from pageferry.common.units import human_bytes


def duration(ms: float | None) -> str:
    """Write a time: `0.421 ms`, `2.30 ms`, `348 ms`, `10.8 s`, `3 min 12 s`.

    Args:
        ms: Milliseconds; None: not known.

    Returns:
        A dash where it is not known or not finite.
    """
    if ms is None or not math.isfinite(ms):
        return NOTHING
    size = abs(ms)
    if size < 0.9995:
        return f"{ms:.3f} ms"
    if size < 99.995:
        return f"{ms:.2f} ms"
    if size < 999.5:
        return f"{ms:.0f} ms"
    if size < 119_950:
        return f"{ms / 1e3:.1f} s" if size >= 9_950 else f"{ms / 1e3:.2f} s"
    minutes, seconds = divmod(round(ms / 1e3), 60)
    return f"{minutes:,} min {seconds} s"


def share(value: float | None) -> str:
    """Write a share: `21.6 %`.

    Args:
        value: A fraction of one; None: not known.

    Returns:
        A dash where it is not known or not finite.
    """
    return NOTHING if value is None or not math.isfinite(value) else f"{100 * value:.1f} %"


def deviation(value: float | None) -> str:
    """Write a deviation: `+14 %`, `−0.4 %`.

    Args:
        value: A fraction of one; None: not known.

    Returns:
        A dash where it is not known or not finite.
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    digits = 1 if abs(value) < 0.0995 else 0
    return f"{100 * value:+,.{digits}f} %".replace("-", "\N{MINUS SIGN}")


def size(value: float | None) -> str:
    """Write a size: `537 MB`.

    Args:
        value: Bytes; None: not known.

    Returns:
        A dash where it is not known or not finite.
    """
    return NOTHING if value is None or not math.isfinite(value) else human_bytes(value)


def rate(value: float | None) -> str:
    """Write a rate: `99.7 MB/s`.

    Args:
        value: Bytes per second; None: not known.

    Returns:
        A dash where it is not known or not finite.
    """
    return NOTHING if value is None or not math.isfinite(value) else f"{human_bytes(value)}/s"


def count(value: int | None) -> str:
    """Write a count: `1,664`.

    Args:
        value: A whole number; None: not known.

    Returns:
        A dash where it is not known.
    """
    return NOTHING if value is None else f"{value:,}"
