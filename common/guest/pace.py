"""When a vCPU's next step is due: a pure function of time.

A schedule repeats every `period_ns`: `burst` steps are due at its start (a click, a tick), the rest
of its `steps` are spread evenly. A plain rate is a period without a burst; `steps` = 0 is no
schedule at all: every step is always due. All figures are int64: a period may be long and its steps
many, so the full product of two of them is never computed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from pageferry.common.guest.jit import kernel

# How far behind its schedule a vCPU may fall and still catch up. What it misses beyond that (it had
# no processor, its page was late) is dropped: nobody asked for an unbounded burst.
MAX_LAG_NS: Final = 200_000_000
_MAX_STEPS: Final = 2**32  # times a period of one second still fits in an int64
_SMALL: Final = 2.0**62


@dataclass(frozen=True)
class Pace:
    """The schedule of one vCPU; the default is flat out.

    Attributes:
        period_ns: Length of a period, at least 1.
        burst: Steps that are due at once when a period starts, at most `steps`.
        steps: Steps of a whole period, the burst included; 0: no schedule.
    """

    period_ns: int = 1
    burst: int = 0
    steps: int = 0


FLAT_OUT: Final = Pace()


def even(steps_per_s: float, unit: int = 1) -> Pace:
    """Make a schedule that spreads its steps evenly.

    Args:
        steps_per_s: Steps a second, above 0; infinite, or 2**32 and more: flat out.
        unit: The period holds a whole number of so many steps, over which the rate is exact.

    Returns:
        A schedule without a burst, or `FLAT_OUT`.
    """
    if not math.isfinite(steps_per_s) or steps_per_s >= _MAX_STEPS:
        return FLAT_OUT
    units = max(1, math.ceil(steps_per_s / unit))
    return Pace(period_ns=max(1, round(units * unit / steps_per_s * 1e9)), steps=units * unit)


@kernel
def _share(a: int, b: int, d: int) -> int:
    """Compute `a * b // d` exactly.

    For 0 <= a <= d <= 2**52 and 0 <= b < 2**60, or a product below 2**62.
    """
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
    """Compute how many steps should have begun by a point in time.

    Args:
        elapsed_ns: ns since the schedule's start, at least 0.
        period_ns: See `Pace`; as are the others.
        burst: Steps due at a period's start.
        steps: Steps of a period.

    Returns:
        Steps since the schedule's start; at 0 ns that is already the first burst.
    """
    cycles = elapsed_ns // period_ns
    into = elapsed_ns - cycles * period_ns
    return cycles * steps + burst + _share(into, steps - burst, period_ns)


@kernel
def due_at(step: int, period_ns: int, burst: int, steps: int) -> int:
    """Compute when a step is due: the earliest time at which `steps_due` exceeds its number.

    Args:
        step: The step's number, from 0.
        period_ns: See `Pace`; as are the others.
        burst: Steps due at a period's start.
        steps: Steps of a period, not 0.

    Returns:
        ns after the schedule's start.
    """
    cycles = step // steps
    into = step - cycles * steps
    if into < burst:
        return cycles * period_ns
    rest = steps - burst
    # Rounded up: a whole period less the time, rounded down, of the steps that come after.
    return (cycles + 1) * period_ns - _share(steps - into - 1, period_ns, rest)
