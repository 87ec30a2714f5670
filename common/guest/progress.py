"""How far a guest has come, and when its vCPUs were last seen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """A sample of a guest's counters, all vCPUs together.

    Attributes:
        t_ns: When it was taken, CLOCK_MONOTONIC.
        steps: Steps done; a restored guest's count includes those of before.
        dirtied_pages: Pages that became dirty since this guest object was made; a page counts again
            after each harvest.
    """

    t_ns: int
    steps: int
    dirtied_pages: int


@dataclass(frozen=True)
class Beats:
    """A vCPU's own record of when it ran, CLOCK_MONOTONIC ns.

    Attributes:
        first_ns: Its first heartbeat after the last resume.
        last_ns: Its last heartbeat.
        gap_ns: The longest time between two heartbeats since `Guest.reset_gaps`; 0: none yet.
        gap_start_ns: When that gap began.
        gap_end_ns: When that gap ended.
    """

    first_ns: int
    last_ns: int
    gap_ns: int
    gap_start_ns: int
    gap_end_ns: int
