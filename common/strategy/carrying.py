"""What a link carries, as a source learns it from its rounds; pure.

A round takes its bytes' time on the link, a round trip until the destination's word of it has come
back, and the time that threads and event loops need to hand over to one another. Only the first of
these depends on the link's rate, and a stop has none of the others twice: over a long way, a rate
that includes them would make a stop look longer than it is.

How long as many bytes as the last round had take, or fewer, is known from that round. Bytes beyond
that go at the link's rate, which only a large round tells: it lies between the round's own rate
with all of this included and the one without, as near as that allows to the rate that was assumed
before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

# A rate measured over less than this says more about one round trip than about the link.
MEASURABLE_BYTES: Final = 2 * 2**20
# Threads and the event loop hand over to one another: a round is ordered, begun, acknowledged.
ROUND_S: Final = 0.0015
# Of a round's time is its bytes', however long a round trip is assumed; less of a small round's,
# whose bytes are known to take less.
_LEAST_SHARE: Final = 0.1


@dataclass(slots=True)
class Carrying:
    """What is known of a link by now.

    Attributes:
        rate_Bps: What it carries, bytes/s; infinite where nothing is known.
        rtt_s: A round trip of one byte.
        size: Bytes of the last round.
        sending_s: What those took on the link.
    """

    rate_Bps: float
    rtt_s: float
    size: float = 0.0
    sending_s: float = 0.0

    def record(self, size: float, seconds: float) -> None:
        """Learn from a round.

        Args:
            size: Its bytes on the wire.
            seconds: From its first page until it was acknowledged.
        """
        if size <= 0 or seconds <= 0:
            return
        least_s = _LEAST_SHARE * seconds
        if size < self.rate_Bps * least_s < math.inf:
            least_s = size / self.rate_Bps
        sending_s = max(seconds - self.rtt_s - ROUND_S, least_s)
        self.size, self.sending_s = size, sending_s
        if size >= MEASURABLE_BYTES:
            self.rate_Bps = min(max(self.rate_Bps, size / seconds), size / sending_s)

    def seconds(self, size: float) -> float:
        """Estimate how long bytes take on the link.

        Args:
            size: How many; not negative.

        Returns:
            Seconds, without a round trip.
        """
        within, beyond = min(size, self.size), max(size - self.size, 0.0)
        within_s = self.sending_s * within / self.size if within else 0.0
        if beyond == 0:
            return within_s
        return within_s + beyond / self.rate_Bps if self.rate_Bps > 0 else math.inf


class FixedRate(Carrying):
    """A link whose rate is known, whatever it is told."""

    def record(self, size: float, seconds: float) -> None:
        """Learn nothing.

        Args:
            size: Ignored.
            seconds: Ignored.
        """
