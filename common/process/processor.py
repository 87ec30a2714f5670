"""The processor of this host, by name."""

from __future__ import annotations

import platform
from functools import cache
from typing import Final

_ENOUGH: Final = 2**16  # characters of /proc/cpuinfo: the first processors are in it
_MODEL: Final = ("model name", "model", "cpu model", "hardware")  # one for each kind of processor


@cache
def processor() -> str | None:
    """Read the processor's model.

    Returns:
        As the kernel names it; None where it does not.
    """
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            text = file.read(_ENOUGH)
    except OSError:
        return platform.processor() or None
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon and value.strip():
            found.setdefault(name.strip().lower(), value.strip())
    known = next((found[name] for name in _MODEL if not found.get(name, "0").isdigit()), None)
    return known or _arm(found) or platform.processor() or None


def _arm(found: dict[str, str]) -> str | None:
    """Write the numbers that Arm's kernel has for a model: `implementer 0x41, part 0xd0c`."""
    names = ("cpu implementer", "cpu part")
    if any(name not in found for name in names):
        return None
    return ", ".join(f"{name.removeprefix('cpu ')} {found[name]}" for name in names)
