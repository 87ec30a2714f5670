"""Transfers that share one uplink evenly, event by event.

At most `slots` guests are on their way at a time. Each first takes some time in which it puts
nothing on the link (connections, hand-over), then has a number of bytes to send. Whoever sends gets
an even share of the uplink, but no more than `most_Bps`. Under even shares everybody's bytes grow
at one rate. So one figure tells when each is through: the bytes that a transfer would have had that
had been there all the time. Events are exact, and cost the logarithm of the number under way.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Transfer(NamedTuple):
    """A transfer that is to be made.

    Attributes:
        idle_s: Seconds that it takes without a byte on the link, before it sends.
        bytes: What it sends then.
    """

    idle_s: float
    bytes: float


class Span(NamedTuple):
    """When a job was on its way; seconds."""

    start_s: float
    end_s: float


def schedule_transfers(
    jobs: Sequence[Transfer], order: Iterable[int], *, slots: int, rate_Bps: float, most_Bps: float
) -> list[Span]:
    """Compute when each transfer is under way.

    Args:
        jobs: The transfers.
        order: Numbers of all jobs, in the order in which they begin.
        slots: How many are on their way at a time.
        rate_Bps: Rate of the uplink, bytes/s.
        most_Bps: Most that one of them gets, bytes/s.

    Returns:
        A span for each job, by its number.
    """
    waiting = iter(order)
    spans: list[Span] = [Span(0.0, 0.0)] * len(jobs)
    started = [0.0] * len(jobs)
    idle: list[tuple[float, int]] = []  # (when it begins to send, number)
    sending: list[tuple[float, int]] = []  # (what `given` is when it is through, number)
    now = given = 0.0

    def begin() -> None:
        number = next(waiting, None)
        if number is not None:
            started[number] = now
            heapq.heappush(idle, (now + jobs[number].idle_s, number))

    for _ in range(slots):
        begin()
    while idle or sending:
        rate = min(rate_Bps / len(sending), most_Bps) if sending else 0.0
        through_s = now + max(sending[0][0] - given, 0.0) / rate if sending else float("inf")
        if idle and idle[0][0] <= through_s:
            at, number = heapq.heappop(idle)
            given += (at - now) * rate
            now = at
            heapq.heappush(sending, (given + jobs[number].bytes, number))
        else:
            given, number = heapq.heappop(sending)
            now = through_s
            spans[number] = Span(started[number], now)
            if not sending:
                given = 0.0  # beside a large sum, what is small would get lost
            begin()
    return spans
