"""Probes: questions that are answered end to end, and that keep idle connections open.

Proxies and NATs forget a connection on which nothing has gone for a while, many of them in each
direction separately. So whoever has sent nothing on a connection for `IDLE_S` sends a probe there.
On a control or urgent connection it is answered at once, and an answer shows that the way there,
the peer and the way back work. On a bulk connection, where an answer would have to wait behind
pages, each end sends its own and answers none. Control connections carry a clock sample every so
often, and a probe only where somebody asks.

Every connection belongs to one attempt, which its hello says: 0 is a session's first, each recovery
is one more. A probe that names another one is illegal.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from pageferry.common.errors import RemoteProtocolError

MAX_ATTEMPT: Final = 2**32 - 1
MAX_NUMBER: Final = 2**16 - 1  # then it begins again at 0
# Something goes over an idle connection every second at least; the rest is for busy machines.
IDLE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class ProbeFrame:
    """A probe: can you hear me?

    Attributes:
        attempt: The connection's.
        number: What the answer repeats.
    """

    attempt: int
    number: int


@dataclass(frozen=True, slots=True)
class AnswerFrame:
    """The answer to a probe.

    Attributes:
        attempt: The probe's.
        number: Likewise.
    """

    attempt: int
    number: int


class OutstandingProbes:
    """The probes that one end has sent on one connection. They are answered in order.

    Attributes:
        answered: How many have been answered.
        round_trip_s: Of the last one that was answered; None: none has been.
    """

    def __init__(self) -> None:
        self._sent = 0
        self._waiting: deque[tuple[int, float]] = deque()
        self.answered = 0
        self.round_trip_s: float | None = None

    def __len__(self) -> int:
        """Return how many have no answer yet."""
        return len(self._waiting)

    def next(self, now: float) -> int:
        """Return the number of a probe that is about to be sent.

        Args:
            now: Seconds of any clock, of which `take` is told, too.

        Returns:
            0 to `MAX_NUMBER`, then 0 again.
        """
        number = self._sent & MAX_NUMBER
        self._sent += 1
        self._waiting.append((number, now))
        return number

    def take(self, number: int, now: float) -> None:
        """Take in an answer.

        Args:
            number: The number that it repeats.
            now: Seconds of the same clock as in `next`.

        Raises:
            RemoteProtocolError: If that answer was not due.
        """
        if not self._waiting or self._waiting[0][0] != number:
            raise RemoteProtocolError(f"an answer to probe {number}, which was not asked")
        self.round_trip_s = now - self._waiting.popleft()[1]
        self.answered += 1
