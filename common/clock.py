"""The offset between two hosts' monotonic clocks, and how wrong it may be.

A sample is a request and its answer: sent at `t0`, answered at `peer`, back at `t1`. The peer's
clock read `peer` somewhere between `t0` and `t1` of ours, so the offset `peer - (t0 + t1) / 2` is
wrong by at most half the round trip (Cristian's algorithm). The sample with the smallest round trip
is the best one. With samples before and after a migration the offset in between is interpolated.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Sample:
    """One exchange, ns. t0, t1: our clock; peer: the other one's."""

    t0: int
    peer: int
    t1: int

    @property
    def round_trip(self) -> int:
        """ns between request and answer."""
        return self.t1 - self.t0

    @property
    def offset(self) -> float:
        """The peer's clock minus ours, ns."""
        # Differences first: a clock of months in ns has more digits than a float.
        return self.peer - self.t0 - self.round_trip / 2


def best(samples: Sequence[Sample]) -> Sample:
    """The sample with the smallest round trip. Raises `ValueError` for none."""
    return min(samples, key=lambda sample: sample.round_trip)


@dataclass(frozen=True, slots=True)
class ClockMap:
    """Peer times to ours. before, after: best samples of each end; same: one clock for both."""

    before: Sample
    after: Sample
    same: bool = False

    def to_local(self, peer_ns: int) -> int:
        """A time of the peer's clock on ours, ns."""
        if self.same:
            return peer_ns
        span = self.after.peer - self.before.peer
        share = (peer_ns - self.before.peer) / span if span > 0 else 0.0
        # Outside the two samples the drift is not extrapolated: noise would grow with distance.
        share = min(max(share, 0.0), 1.0)
        offset = self.before.offset + share * (self.after.offset - self.before.offset)
        return peer_ns - round(offset)

    @property
    def error_ns(self) -> float:
        """How wrong `to_local` may be between the samples, ns; 0 on one clock."""
        if self.same:
            return 0.0
        return max(self.before.round_trip, self.after.round_trip) / 2


def clock_identity() -> str:
    """Equal on two processes exactly when they read the same CLOCK_MONOTONIC.

    That is one boot of one kernel, and one time namespace (which may shift the clock).
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    try:
        namespace = os.readlink("/proc/self/ns/time")
    except OSError:  # kernels before 5.6 have no time namespaces
        namespace = "time:none"
    return f"{boot} {namespace}"
