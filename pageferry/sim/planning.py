"""Evacuating a host: which guest goes when, how many at a time, by which strategy.

With `slots` guests on their way at a time, each is promised an even share of the uplink, and its
migration is simulated at that: what it sends, how long it stands still. Strategies that leave the
guest where it is until it is whole elsewhere come first (`STAY`). If none of them keeps the
downtime limit, one that hands over by post-copy is taken; failing that, whichever stands still
least. Among those that keep the limit, the fastest is taken. The work depends on the kinds of
guests, not on their number: there may be many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, NamedTuple

from pageferry.common.config.model import MigrationConfig
from pageferry.common.report.binding_limit import lower_limit
from pageferry.common.report.sections.limits import BoundReport
from pageferry.common.strategy import SwitchToPostCopy
from pageferry.sim.conditions import Simulated, simulated_conditions
from pageferry.sim.fleet import GuestKind
from pageferry.sim.link import SimulatedLink
from pageferry.sim.reporting import play
from pageferry.sim.sharing import Span, Transfer, schedule_transfers

STAY: Final = ("pre-copy", "three-path", "cache-aware")
SWITCH: Final = ("hybrid", "post-copy")
SLOTS: Final = (1, 2, 4, 8, 16, 32)
ABOUT: Final = 0.1  # share of the total time that keeping guests whole on one host is worth
# Connections, negotiation, a destination that prepares its memory: nothing is on the link.
SETUP_S: Final = 0.2


class MigrationChoice(NamedTuple):
    """How guests of a kind are moved, and what one of them costs.

    Attributes:
        strategy: The strategy.
        total_s: How long its migration takes at the promised rate.
        downtime_s: How long it stands still.
        bytes: What it sends.
        switches: Whether it goes by post-copy in the end.
    """

    strategy: str
    total_s: float
    downtime_s: float
    bytes: float
    switches: bool


@dataclass(frozen=True, slots=True)
class EvacuationPlan:
    """One plan of an evacuation.

    Attributes:
        order: In which order guests go, a key of `ORDERS`.
        slots: How many are on their way at a time.
        spans: When each is on its way, by the guest's number.
        choices: How each goes, by the guest's number.
        over: Guests that stand still beyond their downtime limit.
    """

    order: str
    slots: int
    spans: list[Span]
    choices: list[MigrationChoice]
    over: int

    @property
    def total_s(self) -> float:
        """Seconds until the last guest has left."""
        return max(span.end_s for span in self.spans)

    @property
    def mean_s(self) -> float:
        """Seconds until a guest has left, on average."""
        return sum(span.end_s for span in self.spans) / len(self.spans)

    @property
    def worst_downtime_s(self) -> float:
        """Longest downtime of all guests, in seconds."""
        return max(choice.downtime_s for choice in self.choices)

    @property
    def switched(self) -> int:
        """Guests that go by post-copy in the end."""
        return sum(choice.switches for choice in self.choices)

    @property
    def bytes(self) -> float:
        """Bytes that all guests send."""
        return sum(choice.bytes for choice in self.choices)


@dataclass
class Evacuation:
    """An evacuation that is to be planned.

    Attributes:
        guests: Each guest's kind.
        base: The options that all migrations share.
        link: The uplink.
        most_Bps: The user's limit of each migration; infinite is none.
        strategy: For all guests; None chooses one for each kind.
        steps_per_s: Speed of a vCPU that runs flat out; None is the default.
    """

    guests: Sequence[GuestKind]
    base: MigrationConfig
    link: SimulatedLink
    most_Bps: float
    strategy: str | None = None
    steps_per_s: float | None = None
    _known: dict[tuple[GuestKind, str, float], MigrationChoice] = field(default_factory=dict)
    _made: dict[GuestKind, Simulated] = field(default_factory=dict)

    @property
    def uplink_rate(self) -> float:
        """What all migrations share, bytes/s."""
        return self.link.rate

    def least_bytes(self) -> float:
        """Add up what has to travel at least: every guest's memory, once.

        Returns:
            Bytes.
        """
        full = [self._under(kind).full_bytes for kind in self._kinds]
        return sum(full[which] for which in self._which)

    def least_s(self) -> float:
        """Compute a time that no plan beats: neither the uplink nor any migration exceeds its rate.

        Returns:
            Seconds.
        """
        alone = self.promised_rate(1)
        together = min(self.uplink_rate, min(SLOTS[-1], len(self.guests)) * alone)
        largest = max(self._under(kind).full_bytes for kind in self._kinds)
        return max(self.least_bytes() / together, largest / alone)

    def bound(self, plan: EvacuationPlan) -> BoundReport | None:
        """Find the limit that a migration meets first: the user's, or its share of the uplink.

        Args:
            plan: The plan that it is of; only `slots` is looked at.

        Returns:
            What binds it; None where the user set no limit.
        """
        return (
            None
            if math.isinf(self.most_Bps)
            else lower_limit(self.most_Bps, self._even(plan.slots))
        )

    @cached_property
    def _kinds(self) -> list[GuestKind]:
        """Each kind of guest, once."""
        return list(dict.fromkeys(self.guests))

    @cached_property
    def _which(self) -> list[int]:
        """Each guest's kind, by its place in `_kinds`."""
        places = {kind: place for place, kind in enumerate(self._kinds)}
        return [places[kind] for kind in self.guests]

    def plans(self) -> Iterator[EvacuationPlan]:
        """Plan each order with each number of slots.

        Yields:
            The plans, by rising number of slots; no more slots than there are guests.
        """
        dirty = [self._dirty(kind) for kind in self._kinds]
        most = self.promised_rate(1)
        for slots in SLOTS:
            if slots > len(self.guests) and slots != SLOTS[0]:
                return
            chosen = [self.choose(kind, self.promised_rate(slots)) for kind in self._kinds]
            beyond = [
                choice.downtime_s > self._limit_s(kind)
                for kind, choice in zip(self._kinds, chosen, strict=True)
            ]
            work = [self._job(choice, slots) for choice in chosen]
            jobs = [work[which] for which in self._which]
            for name, key in ORDERS.items():
                ranks = [key(job, share_) for job, share_ in zip(work, dirty, strict=True)]
                numbers = sorted(range(len(jobs)), key=lambda n: ranks[self._which[n]])
                spans = schedule_transfers(
                    jobs, numbers, slots=slots, rate_Bps=self.uplink_rate, most_Bps=most
                )
                choices = [chosen[which] for which in self._which]
                yield EvacuationPlan(
                    name, slots, spans, choices, sum(beyond[w] for w in self._which)
                )

    def promised_rate(self, slots: int) -> float:
        """Compute the share of the uplink that no migration gets less than.

        Args:
            slots: How many are on their way at a time.

        Returns:
            Bytes/s.
        """
        return min(self._even(slots), self.most_Bps)

    def _even(self, slots: int) -> float:
        return min(self.uplink_rate / slots, self.link.carries(self.base.congestion))

    def _job(self, choice: MigrationChoice, slots: int) -> Transfer:
        sending_s = choice.bytes / self.promised_rate(slots)
        return Transfer(SETUP_S + max(choice.total_s - sending_s, 0.0), choice.bytes)

    def _limit_s(self, kind: GuestKind) -> float:
        limit = kind.downtime_limit
        return self.base.downtime_limit if limit is None else limit

    def _dirty(self, kind: GuestKind) -> float:
        """Compute the share of its memory that a guest dirties in a second."""
        under = self._under(kind)
        return under.stale(1.0).pages / under.pages_total

    def _under(self, kind: GuestKind) -> Simulated:
        """Make the guest with the uplink to itself; kept by kind."""
        if kind not in self._made:
            self._made[kind] = simulated_conditions(
                kind.config(self.base), self.link, self.steps_per_s
            )
        return self._made[kind]

    def choose(self, kind: GuestKind, rate_Bps: float) -> MigrationChoice:
        """Choose how guests of a kind go.

        Args:
            kind: The kind.
            rate_Bps: The rate that each of them is promised.

        Returns:
            The strategy, and what it costs.
        """
        if self.strategy is not None:
            return self._cost(kind, self.strategy, rate_Bps)
        limit_s, seen = self._limit_s(kind), []
        for names in (STAY, SWITCH):
            costs = [self._cost(kind, name, rate_Bps) for name in names]
            seen += costs
            good = [
                cost
                for cost in seen
                if cost.downtime_s <= limit_s and not (names is STAY and cost.switches)
            ]
            if good:
                return min(good, key=lambda cost: cost.total_s)
        return min(seen, key=lambda cost: cost.downtime_s)

    def _cost(self, kind: GuestKind, strategy: str, rate_Bps: float) -> MigrationChoice:
        key = (kind, strategy, rate_Bps)
        if key not in self._known:
            config = kind.config(self.base)
            config = config.model_copy(update={"strategy": strategy, "max_bandwidth": rate_Bps})
            played = play(
                config, simulated_conditions(config, self.link, self.steps_per_s), faults=False
            )
            cost, ended = played.cost, played.ended
            switches = ended is not None and isinstance(ended.decision, SwitchToPostCopy)
            self._known[key] = MigrationChoice(
                strategy, cost.total_s, cost.downtime_s, cost.bytes, switches
            )
        return self._known[key]


# What guests are sorted by: the job, and the share of its memory that the guest dirties a second.
ORDERS: Final[dict[str, Callable[[Transfer, float], float]]] = {
    "as listed": lambda job, dirty: 0.0,  # noqa: ARG005
    "shortest first": lambda job, dirty: job.bytes,  # noqa: ARG005
    "longest first": lambda job, dirty: -job.bytes,  # noqa: ARG005
    "least dirty first": lambda job, dirty: dirty,  # noqa: ARG005
    "most dirty first": lambda job, dirty: -dirty,  # noqa: ARG005
}


def best_plan(plans: Sequence[EvacuationPlan]) -> EvacuationPlan:
    """Choose the best plan.

    It has the fewest guests beyond their limit; of such plans, among the fast ones, it moves the
    fewest guests by post-copy; of those, it has moved a guest soonest, on average.

    Args:
        plans: At least one.

    Returns:
        One of them.
    """
    over = min(plan.over for plan in plans)
    good = [plan for plan in plans if plan.over == over]
    most_s = min(plan.total_s for plan in good) * (1 + ABOUT)
    fast = [plan for plan in good if plan.total_s <= most_s]
    return min(fast, key=lambda plan: (plan.switched, plan.mean_s))
