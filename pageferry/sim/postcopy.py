"""The guest at the destination with pages missing: faults, pushes, and how slow it is meanwhile.

Of the missing pages the guest will touch W some day, and the others never. T(x) is how many of the
W a guest that has run for x would have touched, each counted once, had they all been there; m is
the missing share of those of the W that are untouched. A touch is a fault with likelihood m, and m
falls with the part p of the push that goes to those pages:

    faults: m T'(x) dx/dt       dm/dt = -p / (W - T(x))

The push follows the last fault: with a fault before each of its batches it is where the guest is,
without any it takes all that is missing in turn. A fault takes a round trip, a page's time on the
link, and what the push has standing in the link's queue. While a vCPU waits for it, it does not
run; one that keeps to a rate makes up for it as long as it has time to spare. Demanded pages and
pushed ones share the rate, and demands go first. A guest that goes through memory in order gets
`window` more pages with each fault, as long as the rate has room for what it wants; beyond that it
is faster than they are, and demands each page.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pageferry.sim.working_set import PAGE_BYTES
from pageferry.source_agent.postcopy.supply import PUSH_PAGES

FAULT_S: Final = 40e-6  # the handler, two wake-ups of threads, UFFDIO_COPY
_STEPS: Final = 250
_HALVINGS: Final = 14  # of a step
_SLOW: Final = 0.9  # of its speed: below it the guest counts as degraded


@dataclass(frozen=True, slots=True)
class PostcopySample:
    """A moment after the resume.

    Attributes:
        t_s: Seconds after the resume.
        missing: Pages that are still missing.
        speed: The guest's speed since the last sample; 1 is the speed with no page missing.
    """

    t_s: float
    missing: float
    speed: float


@dataclass(slots=True)
class Supplied:
    """How the missing pages came.

    Attributes:
        latency_s: What a fault takes.
        seconds: From the resume to the end of the simulation.
        faults: How many there were.
        pulled: Pages that were demanded, or came with one that was.
        pushed: Pages that came unasked.
        ran_s: The guest's own time, until `seconds` after the resume.
        degraded_s: For how long the guest had less than 0.9 of its speed.
        samples: In order of time.
    """

    latency_s: float
    seconds: float = 0.0
    faults: float = 0.0
    pulled: float = 0.0
    pushed: float = 0.0
    ran_s: float = 0.0
    degraded_s: float = 0.0
    samples: list[PostcopySample] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SimulatedSupply:
    """A guest with pages missing, at its resume.

    Attributes:
        missing: Pages that are missing.
        working: Of these, those of the guest's working set.
        touched: How many of these a guest has touched that has run for so many seconds.
        vcpus: How many vCPUs it has.
        busy: Share of its time that a vCPU needs when no page is missing.
        rate_Bps: Rate of everything that is sent.
        link_Bps: Rate at which a single page goes.
        rtt_s: Round trip.
        queue_s: How long a demanded page waits behind pushed ones on the link.
        window: Pages that come with a demanded one.
    """

    missing: float
    working: float
    touched: Callable[[float], float]
    vcpus: int
    busy: float
    rate_Bps: float
    link_Bps: float
    rtt_s: float
    queue_s: float
    window: int

    def latency_s(self, *, push: bool) -> float:
        """Compute what a fault takes.

        Args:
            push: Whether pages are pushed, which a demanded one waits behind.

        Returns:
            Seconds.
        """
        queue_s = self.queue_s if push else 0.0
        return self.rtt_s + queue_s + PAGE_BYTES / self.link_Bps + FAULT_S

    def play(self, *, push: bool, until_s: float) -> Supplied:
        """Simulate until nothing is missing, or without a push for a given time.

        Args:
            push: Whether pages are pushed.
            until_s: Seconds to simulate without a push; unused with one.

        Returns:
            How it went.
        """
        latency_s = self.latency_s(push=push)
        out = Supplied(latency_s)
        pages_per_s = self.rate_Bps / PAGE_BYTES
        step_s = (self.missing / pages_per_s if push else until_s) / _STEPS
        share, x, seen, others = 1.0, 0.0, 0.0, self.missing - self.working
        for _ in range(_STEPS if step_s > 0 else 0):
            moved = self._run(x, seen, share, step_s, pages_per_s, latency_s)
            pulled = share * (moved.seen - seen)
            untouched = max(self.working - moved.seen, 0.0)
            pushed = 0.0
            if push:
                pushed = min(pages_per_s * step_s - pulled, share * untouched + others)
                near = _near(moved.faults, pushed, share * untouched, others)
                share = max(share - near / untouched, 0.0) if untouched > 0 else 0.0
                others = max(others - (pushed - near), 0.0)
            speed = (moved.x - x) / step_s
            x, seen = moved.x, moved.seen
            out.seconds += step_s
            out.faults += moved.faults
            out.pulled += pulled
            out.pushed += pushed
            out.degraded_s += step_s if speed < _SLOW else 0.0
            out.samples.append(PostcopySample(out.seconds, share * untouched + others, speed))
        out.ran_s = x
        return out

    def _run(
        self, x: float, seen: float, share: float, step_s: float, per_s: float, latency_s: float
    ) -> _Moved:
        """Compute how far the guest comes in a step; per_s: pages that the rate has room for."""

        def after(ran: float) -> tuple[bool, _Moved]:
            by_then = min(max(self.touched(x + ran), seen), self.working)
            pulled = share * (by_then - seen)
            room = pulled <= per_s * step_s
            faults = pulled / (1 + self.window) if wants <= per_s * step_s else pulled
            waits_s = faults / self.vcpus * latency_s
            return room and waits_s + self.busy * ran <= step_s, _Moved(x + ran, by_then, faults)

        wants = share * (self.touched(x + step_s) - seen)
        good, moved = after(step_s)
        if good:
            return moved
        low, high = 0.0, step_s
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if after(middle)[0] else (low, middle)
        return after(low)[1]


class _Moved(NamedTuple):
    """A step of the guest: its own time, what it has touched, and the faults of the step."""

    x: float
    seen: float
    faults: float


def _near(faults: float, pushed: float, working: float, others: float) -> float:
    """Compute how much of a push goes to pages that the guest will touch."""
    if pushed <= 0 or working + others <= 0:
        return 0.0
    follows = min(faults * PUSH_PAGES / pushed, 1.0)
    evenly = working / (working + others)
    near = pushed * (follows + (1.0 - follows) * evenly)
    return min(max(near, pushed - others), working)
