"""How many visits a guest has made by a given time: schedules without a clock.

A *visit* is one go at a page. Times are seconds since the guest began to run; visits are of one
vCPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol


class VisitFlow(Protocol):
    """Visits over time."""

    @property
    def mean(self) -> float:
        """Visits a second, in the long run."""
        ...

    @property
    def busy(self) -> float:
        """Share of its time that the vCPU needs for them."""
        ...

    def visits(self, seconds: float) -> float:
        """Count the visits made by a given time.

        Args:
            seconds: Since the guest began to run; may be negative.

        Returns:
            How many, not always a whole number; 0 before the start.
        """
        ...


@dataclass(frozen=True, slots=True)
class Steady:
    """Visits that are spread evenly.

    Attributes:
        per_s: Visits a second; infinite is as fast as can be.
        most_per_s: Visits a second that the vCPU can make; infinite if they take no time.
    """

    per_s: float
    most_per_s: float

    @property
    def mean(self) -> float:
        """See `VisitFlow`."""
        return min(self.per_s, self.most_per_s)

    @property
    def busy(self) -> float:
        """See `VisitFlow`."""
        return self.mean / self.most_per_s

    def visits(self, seconds: float) -> float:
        """Count visits, as `VisitFlow` says.

        Args:
            seconds: Since the guest began to run.

        Returns:
            How many.
        """
        return self.mean * max(seconds, 0.0)


@dataclass(frozen=True, slots=True)
class Bursts:
    """Visits that come in bursts, each from the start of a period on, as fast as they can be made.

    Attributes:
        period_s: Length of a period.
        burst: Visits of each period.
        most_per_s: Visits a second that the vCPU is able to make.
    """

    period_s: float
    burst: float
    most_per_s: float

    @property
    def mean(self) -> float:
        """See `VisitFlow`."""
        return min(self.burst / self.period_s, self.most_per_s)

    @property
    def busy(self) -> float:
        """See `VisitFlow`."""
        return self.mean / self.most_per_s

    def visits(self, seconds: float) -> float:
        """Count visits, as `VisitFlow` says.

        Args:
            seconds: Since the guest began to run.

        Returns:
            How many.
        """
        if seconds <= 0:
            return 0.0
        if self.burst >= self.most_per_s * self.period_s:
            return self.most_per_s * seconds
        periods = math.floor(seconds / self.period_s)
        into = seconds - periods * self.period_s
        return periods * self.burst + min(self.burst, self.most_per_s * into)
