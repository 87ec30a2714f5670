"""The offset between two hosts' monotonic clocks, and how wrong it may be.

A sample is a request and its answer: sent at `t0`, answered at `peer`, back at `t1`. The peer's
clock read `peer` somewhere between `t0` and `t1` of ours, so the offset `peer - (t0 + t1) / 2` is
wrong by at most half the round trip (Cristian's algorithm). The sample with the smallest round trip
is the best one. With samples before and after a migration the offset in between is interpolated.

Two processes that read one clock need no estimate. That they do is not believed because they say
so: machines that were cloned from one, or restored from one snapshot, have the same boot_id, and
their clocks may be hours apart. The samples must show it: on one clock an answer is given between
its request's departure and its own arrival, and none of them may say otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final


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

    @property
    def fits_one_clock(self) -> bool:
        """Whether it may have been taken by two readers of the same clock."""
        return self.t0 <= self.peer <= self.t1


def best(samples: Sequence[Sample]) -> Sample:
    """The sample with the smallest round trip. Raises `ValueError` for none."""
    return min(samples, key=lambda sample: sample.round_trip)


@dataclass(frozen=True, slots=True)
class ClockMap:
    """Peer times to ours. before, after: best samples of each end.

    said_same: both ends say that they read the same clock, see `clock_identity`.
    """

    before: Sample
    after: Sample
    said_same: bool = False

    @property
    def same(self) -> bool:
        """One clock for both: they say so, and the samples show it."""
        return self.said_same and self.before.fits_one_clock and self.after.fits_one_clock

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
    """Equal on two processes that read the same CLOCK_MONOTONIC; empty where it can't be known.

    It names one boot of one kernel, and one time namespace (which may shift the clock). That it
    differs proves two clocks, or two boots; that it is equal proves nothing, since a machine that
    was cloned has it, too.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):  # no /proc, or a kernel or sandbox without it
        return ""
    try:
        namespace = os.readlink("/proc/self/ns/time")
    except OSError:  # kernels before 5.6 have no time namespaces
        namespace = "time:none"
    return f"{boot} {namespace}" if boot else ""


def same_identity(one: str | None, other: str | None) -> bool:
    """Whether both are known, and equal."""
    return bool(one) and one == other


_SLACK_NS: Final = 1_000_000_000  # of a reading that has been under way, and of a busy host
_DRIFT: Final = 1e-3  # twice what NTP may slew a clock by


def reads_on(known: Sample, now: Sample) -> bool:
    """Whether a later answer comes from the clock that gave an earlier one.

    Each boot of each machine begins its clock anew, and clones are not started at one moment: an
    answer whose clock is elsewhere is another machine's, whatever that says of itself.
    """
    most = _SLACK_NS + now.round_trip + abs(now.t0 - known.t0) * _DRIFT
    return abs(now.offset - known.offset) <= most
