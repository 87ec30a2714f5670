"""How many visits a guest has made by a given time: schedules without a clock.

A *visit* is one go at a page. Times are seconds since the guest began to run; one vCPU's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol


class Flow(Protocol):
    """Cumulative visits."""

    @property
    def mean(self) -> float:
        """Visits a second, in the long run."""
        ...

    @property
    def busy(self) -> float:
        """Share of its time that the vCPU needs for them."""
        ...

    def visits(self, seconds: float) -> float:
        """By then; 0 before the start. Not always a whole number."""
        ...


@dataclass(frozen=True, slots=True)
class Steady:
    """per_s visits a second, spread evenly; as fast as `most_per_s` allows."""

    per_s: float
    most_per_s: float

    @property
    def mean(self) -> float:
        """See `Flow`."""
        return min(self.per_s, self.most_per_s)

    @property
    def busy(self) -> float:
        """See `Flow`."""
        return self.mean / self.most_per_s

    def visits(self, seconds: float) -> float:
        """See `Flow`."""
        return self.mean * max(seconds, 0.0)


@dataclass(frozen=True, slots=True)
class Bursts:
    """`burst` visits from the start of each period on, as fast as they can be made."""

    period_s: float
    burst: float
    most_per_s: float

    @property
    def mean(self) -> float:
        """See `Flow`."""
        return min(self.burst / self.period_s, self.most_per_s)

    @property
    def busy(self) -> float:
        """See `Flow`."""
        return self.mean / self.most_per_s

    def visits(self, seconds: float) -> float:
        """See `Flow`."""
        if seconds <= 0:
            return 0.0
        if self.burst >= self.most_per_s * self.period_s:
            return self.most_per_s * seconds
        periods = math.floor(seconds / self.period_s)
        into = seconds - periods * self.period_s
        return periods * self.burst + min(self.burst, self.most_per_s * into)
