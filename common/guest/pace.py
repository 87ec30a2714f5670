"""When a vCPU's next step is due: a pure function of time.

A schedule repeats every `period_ns`: `burst` steps are due at its start (a click, a tick), the rest
of its `steps` spread evenly. A plain rate is a period without a burst; `steps` = 0 is no schedule
at all: every step is always due. All figures are int64: a period may be long and its steps many,
so products of both are never formed whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from pageferry.common.guest.jit import kernel

# How far behind its schedule a vCPU may fall and still catch up. What is missed beyond that (it had
# no processor, its page was late) is dropped: nobody asked for a burst without bound.
MAX_LAG_NS: Final = 200_000_000
_MAX_STEPS: Final = 2**32  # times a period of one second still fits in an int64
_SMALL: Final = 2.0**62


@dataclass(frozen=True)
class Pace:
    """A schedule of one vCPU; the default is flat out."""

    period_ns: int = 1
    burst: int = 0
    steps: int = 0


FLAT_OUT: Final = Pace()


def even(steps_per_s: float, unit: int = 1) -> Pace:
    """`steps_per_s` spread evenly, exact over whole `unit`s of steps. Infinite: flat out."""
    if not math.isfinite(steps_per_s) or steps_per_s >= _MAX_STEPS:
        return FLAT_OUT
    units = max(1, math.ceil(steps_per_s / unit))
    return Pace(period_ns=max(1, round(units * unit / steps_per_s * 1e9)), steps=units * unit)


@kernel
def _share(a: int, b: int, d: int) -> int:
    """`a * b // d`, exactly, for 0 <= a <= d <= 2**52 and 0 <= b < 2**60 (or a product < 2**62)."""
    if float(a) * float(b) < _SMALL:
        return a * b // d
    quotient, rest = 0, 0
    for shift in range(50, -1, -10):  # long division, ten bits of `b` at a time
        rest = (rest << 10) + a * ((b >> shift) & 1023)
        quotient = (quotient << 10) + rest // d
        rest %= d
    return quotient


@kernel
def steps_due(elapsed_ns: int, period_ns: int, burst: int, steps: int) -> int:
    """How many steps should have begun `elapsed_ns` after the schedule's start."""
    cycles = elapsed_ns // period_ns
    into = elapsed_ns - cycles * period_ns
    return cycles * steps + burst + _share(into, steps - burst, period_ns)


@kernel
def due_at(step: int, period_ns: int, burst: int, steps: int) -> int:
    """The earliest time (ns after the schedule's start) at which `steps_due` exceeds `step`."""
    cycles = step // steps
    into = step - cycles * steps
    if into < burst:
        return cycles * period_ns
    rest = steps - burst
    # Rounded up: a whole period less the share, rounded down, of the steps that come after.
    return (cycles + 1) * period_ns - _share(steps - into - 1, period_ns, rest)
