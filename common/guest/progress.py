"""How far a guest has come, and when its vCPUs were last seen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """A sample of a guest's counters, all vCPUs together, since this guest was made or restored."""

    t_ns: int
    steps: int
    dirtied_pages: int


@dataclass(frozen=True)
class Beats:
    """A vCPU as its own witness, CLOCK_MONOTONIC ns.

    first: its first heartbeat after the last resume; last: its last one; gap: the longest between
    two since `Guest.reset_gaps`, with its start and end (0: none yet).
    """

    first_ns: int
    last_ns: int
    gap_ns: int
    gap_start_ns: int
    gap_end_ns: int
