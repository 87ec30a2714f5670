"""A strategy of one's own, played in virtual time beside those that pageferry has.

    python examples/own_strategy.py

A strategy is a pure object, without a clock and without IO: figures in, a decision out. Its
contract: `first_decision` is asked once, `next_decision` after each round that it ordered, until
it answers with something else than `NextRound`. Each decision carries its reason, which ends up in
the report. Strategies share nothing, and the same figures always lead to the same decision.

What works today: all of this. `simulated_conditions`, `parse_link` and `play_strategy` are what
`pageferry.simulate` plays its strategies with; they are not in `pageferry.__all__`, so that they
may change. What doesn't work: `pageferry.migrate(strategy="halving")`, nor `simulate` or `compare`
with that name. They know the package's own strategies only: the agents are processes of their own,
and do not import this file. CONTRIBUTING.md says how to add a strategy to the package.
"""

from typing import ClassVar

import pageferry
from pageferry import NextRound, RoundKind, RoundStats, StopAndCopy
from pageferry.common.strategy.forecast import Ended, Played, play_strategy
from pageferry.sim.conditions import simulated_conditions
from pageferry.sim.link import parse_link

LINK = "rate=1gbit,delay=1ms"


class Halving(pageferry.Strategy):
    """Pre-copy that goes on for as long as a round still halves what is left."""

    name: ClassVar[str] = "halving"
    _before = float("inf")  # bytes that were left after the round before

    def first_decision(self) -> pageferry.Decision:
        """Send everything, and have the cache written back first."""
        return NextRound(RoundKind.FULL, drain=True, hold=False, reason="all of memory goes once")

    def next_decision(self, stats: RoundStats) -> pageferry.Decision:
        """Stop when it fits the limit, when it no longer gets better, or when it takes too long."""
        left, before = stats.remaining_bytes, self._before
        self._before = left
        downtime_ms = stats.expected_downtime_s * 1e3
        said = f"{left:,} bytes are left, a stop would take {downtime_ms:.1f} ms"
        if stats.expected_downtime_s <= self.config.downtime_limit:
            return StopAndCopy(f"{said}: that fits")
        if left > before / 2:
            return StopAndCopy(f"{said}: more than half of the {before:,.0f} before")
        if stats.index > self.config.max_rounds:
            return StopAndCopy(f"{said}: enough rounds")
        return NextRound(RoundKind.DIRTY, drain=True, hold=False, reason=said)


def tell(what: Played | Ended) -> None:
    """Print a decision, as `play_strategy` comes to it."""
    decision = what.order if isinstance(what, Played) else what.decision
    print(f"  {type(decision).__name__}: {decision.reason}")


def main() -> None:
    """Play it, then some of the package's own, with the same guest over the same link."""
    config = pageferry.MigrationConfig(
        memory=2**29,
        workload="uniform:rate=150MB/s,lines=64,working-set=10%",
        max_bandwidth=float("inf"),  # the link is the limit
        downtime_limit=0.05,
    )
    cost = play_strategy(Halving(config), simulated_conditions(config, parse_link(LINK)), tell)
    print(f"{'halving':12} {cost.downtime_s * 1e3:8.1f} ms down, {cost.total_s:5.1f} s in all")
    for name in ("pre-copy", "hybrid", "three-path"):
        report = pageferry.simulate(config, strategy=name, link=LINK)
        down_ms, total_s = report.downtime_ms or 0.0, (report.total_time_ms or 0.0) / 1e3
        print(f"{name:12} {down_ms:8.1f} ms down, {total_s:5.1f} s in all")


if __name__ == "__main__":
    main()
