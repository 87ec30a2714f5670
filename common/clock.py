"""The offset between two hosts' monotonic clocks, and how wrong it may be.

A sample is a request and its answer: sent at `t0`, answered at `peer`, back at `t1`. The peer's
clock read `peer` somewhere between our `t0` and `t1`, so the offset `peer - (t0 + t1) / 2` is wrong
by at most half the round trip (Cristian's algorithm). The sample with the smallest round trip is
the best one. With samples from before and after a migration, the offset in between is interpolated.

Two processes that read the same clock need no estimate. Their word for that is not enough: machines
that were cloned from one, or restored from one snapshot, have the same boot_id, and their clocks
may be hours apart. The samples must show it: on one clock, an answer is given after its request has
left and before it comes back, and no sample may say otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class ClockSample:
    """One exchange with the peer.

    Attributes:
        t0: When the request was sent, ns of our CLOCK_MONOTONIC.
        peer: When it was answered, ns of the peer's CLOCK_MONOTONIC.
        t1: When the answer came back, ns of our CLOCK_MONOTONIC.
    """

    t0: int
    peer: int
    t1: int

    @property
    def round_trip(self) -> int:
        """Time between request and answer, ns."""
        return self.t1 - self.t0

    @property
    def offset(self) -> float:
        """The peer's clock minus ours, ns."""
        # Differences first: a clock of months in ns has more digits than a float.
        return self.peer - self.t0 - self.round_trip / 2

    @property
    def fits_one_clock(self) -> bool:
        """Whether two readers of the same clock could have taken this sample."""
        return self.t0 <= self.peer <= self.t1


def best_sample(samples: Sequence[ClockSample]) -> ClockSample:
    """Return the sample with the smallest round trip.

    Args:
        samples: At least one, in any order.

    Returns:
        The first of those with the smallest round trip.

    Raises:
        ValueError: There are no samples.
    """
    return min(samples, key=lambda sample: sample.round_trip)


@dataclass(frozen=True, slots=True)
class ClockMap:
    """A conversion of the peer's times to ours.

    Attributes:
        before: The best sample from before the migration.
        after: The best sample from after it.
        said_same: Whether both ends say that they read the same clock, see `clock_identity`.
    """

    before: ClockSample
    after: ClockSample
    said_same: bool = False

    @property
    def same(self) -> bool:
        """Whether both ends read one clock: they say so, and the samples show it."""
        return self.said_same and self.before.fits_one_clock and self.after.fits_one_clock

    def to_local(self, peer_ns: int) -> int:
        """Convert a time of the peer's clock to ours.

        Args:
            peer_ns: ns of the peer's clock. Outside the two samples the nearer one's offset is
                taken.

        Returns:
            ns of our clock.
        """
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
    """Name the CLOCK_MONOTONIC that this process reads.

    The name stands for one boot of one kernel, and one time namespace (which may shift the clock).
    Two names that differ prove two clocks, or two boots. Two equal names prove nothing: a machine
    that was cloned has the same one.

    Returns:
        The name, equal in all processes that read the same clock; empty where it can't be known.
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
    """Tell whether two clock identities are known and equal.

    Args:
        one: From `clock_identity`; None or empty: not known.
        other: The same of the other end.

    Returns:
        False where either is not known.
    """
    return bool(one) and one == other


_SLACK_NS: Final = 1_000_000_000  # for readings that were on their way, and for a busy host
_DRIFT: Final = 1e-3  # twice the rate at which NTP may slew a clock


def reads_on(known: ClockSample, now: ClockSample) -> bool:
    """Tell whether a later answer comes from the same clock as an earlier one.

    Each boot of each machine starts its clock anew, and clones are not started at the same moment.
    So an answer from a clock that stands elsewhere is another machine's, whatever that machine says
    of itself.

    Args:
        known: The earlier sample.
        now: The later one, taken by the same process as `known`.

    Returns:
        Whether the offsets differ by no more than a second, the round trip, and the drift since
        then.
    """
    most = _SLACK_NS + now.round_trip + abs(now.t0 - known.t0) * _DRIFT
    return abs(now.offset - known.offset) <= most
