"""What each strategy would cost a guest that has been looked at for a moment; pure.

`Measurement` is what the looks saw, `LinkEstimate` what is known or assumed of the way.
`conditions` turns both into what `common.strategy.forecast` plays strategies against, the same
objects that decide about real rounds. `choose_strategy` says which of them to take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from pageferry.common.config.model import MigrationConfig
from pageferry.common.config.strategy import StrategyConfig
from pageferry.common.strategy.base import Strategy, make_strategy
from pageferry.common.strategy.conditions import Conditions, Stale
from pageferry.common.strategy.forecast import Cost, play_strategy
from pageferry.common.strategy.growth import Growth
from pageferry.common.strategy.post_copy import LazyCopy
from pageferry.common.units import PAGE_SIZE, figures, format_time

STRATEGIES: Final = (
    *("stop-and-copy", "pre-copy", "post-copy", "lazy-copy", "hybrid", "three-path"),
    "cache-aware",
)
# Of the total time: a strategy that takes at most so much longer than the fastest is as good.
TIE_SHARE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Look:
    """What had become stale `seconds` after the cache was drained and the log emptied.

    Attributes:
        seconds: When it was looked at.
        pages: Distinct pages.
        lines: Distinct 64-byte lines; all lines of a page that is tracked as a whole.
        bytes: What sending them would put on the wire, if all of them had been sent before.
        memory_bytes: The same of what is in memory.
        cached_bytes: The same of what the cache holds; a page may be in both.
        look_s: What looking took.
    """

    seconds: float
    pages: int
    lines: int
    bytes: int
    memory_bytes: int
    cached_bytes: int
    look_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Measurement:
    """A guest that has been looked at.

    Attributes:
        pages_total: Pages of the guest.
        zero_pages: Those of them that travel as a mark.
        looks: What was seen, in order of time.
        drain_s: What draining the cache takes.
        steps_per_s_before: The guest's speed before anybody looked; None: it had not run.
        steps_per_s_while: The guest's speed meanwhile.
    """

    pages_total: int
    zero_pages: int
    looks: tuple[Look, ...]
    drain_s: float
    steps_per_s_before: float | None
    steps_per_s_while: float

    @property
    def seconds(self) -> float:
        """For how long it was measured."""
        return self.looks[-1].seconds if self.looks else 0.0

    @property
    def dirty_rate(self) -> float:
        """Distinct pages in that time as bytes a second: how QEMU's calc-dirty-rate counts."""
        return self.looks[-1].pages * PAGE_SIZE / self.seconds if self.looks else 0.0


@dataclass(frozen=True, slots=True)
class LinkEstimate:
    """The way to the destination, and what belongs to no page on it.

    Attributes:
        rate_Bps: What it carries, or its limit.
        page_bytes: Of a page that travels by itself.
        frame_bytes: Of a frame beyond its pages.
        frame_pages: Pages of a frame.
        burst_bytes: What a rate limit lets go at once after a rest.
        burst_s: How long that takes.
        round_s, decide_s, switchover_s, discard_page_s: As in `Conditions`, without what the guest
            itself adds.
    """

    rate_Bps: float
    page_bytes: int
    frame_bytes: int
    frame_pages: int
    burst_bytes: float
    burst_s: float
    round_s: float
    decide_s: float
    switchover_s: float
    discard_page_s: float = 0.0


def conditions(guest: Measurement, link: LinkEstimate) -> Conditions:
    """Combine link and guest for `forecast.play_strategy`.

    Args:
        guest: What was seen of it.
        link: The way to the destination.

    Returns:
        Conditions; what becomes stale is continued beyond what was measured.
    """
    whole = guest.pages_total - guest.zero_pages
    frames = -(-guest.pages_total // link.frame_pages)
    return Conditions(
        pages_total=guest.pages_total,
        full_bytes=whole * PAGE_SIZE + frames * link.frame_bytes,
        missing_page_bytes=link.page_bytes,
        bandwidth_Bps=link.rate_Bps,
        round_s=link.round_s + guest.drain_s,
        decide_s=link.decide_s + median([each.look_s for each in guest.looks] or [0.0]),
        switchover_s=link.switchover_s,
        last_bytes=link.burst_bytes,
        last_s=link.burst_s + guest.drain_s,  # a switch drains later
        stale=Staleness(guest, link.page_bytes),
        discard_page_s=link.discard_page_s,
    )


class Staleness:
    """What is stale after so many seconds, measured and continued.

    Args:
        guest: What was seen of it.
        page_bytes: Of a page that travels by itself; no page costs more.

    Attributes:
        pages: How many pages are stale, by seconds.
    """

    def __init__(self, guest: Measurement, page_bytes: int) -> None:
        looks, most = guest.looks, guest.pages_total
        largest = most * page_bytes
        self.pages = Growth([(each.seconds, each.pages) for each in looks], most)
        self._bytes = Growth([(each.seconds, each.bytes) for each in looks], largest)
        self._memory = Growth([(each.seconds, each.memory_bytes) for each in looks], largest)
        self._cached = Growth([(each.seconds, each.cached_bytes) for each in looks], largest)

    def __call__(self, seconds: float) -> Stale:
        """Return what is stale, as `forecast` takes it."""
        size = self._bytes(seconds)
        if size == 0:
            return Stale(0.0, 0.0)
        in_memory, in_cache = self._memory(seconds) / size, self._cached(seconds) / size
        return Stale(self.pages(seconds), size, min(in_memory, 1.0), min(in_cache, 1.0))


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a strategy is expected to cost.

    Attributes:
        strategy: The strategy's name.
        cost: What it is expected to cost.
        ends: Whether the migration ends by itself, and not with the guest.
        gave_up: Whether it goes on until a stop fits the downtime limit, and ended by a stop before
            one did.
    """

    strategy: str
    cost: Cost
    ends: bool = True
    gave_up: bool = False


def forecasts(config: MigrationConfig, under: Conditions) -> list[Forecast]:
    """Forecast what every strategy would cost.

    Args:
        config: Its thresholds, and `run_after` for lazy copy.
        under: Link and guest.

    Returns:
        One for each of `STRATEGIES`, in that order.
    """
    out = []
    for name in STRATEGIES:
        strategy = make_strategy(with_strategy(config, name))
        out.append(_forecast(strategy, under, config.run_after))
    return out


def with_strategy(config: StrategyConfig, name: str) -> StrategyConfig:
    """Return the same thresholds for another strategy.

    Args:
        config: Is not changed; options that decide about no rounds are dropped.
        name: Of the strategy.

    Returns:
        A new configuration.
    """
    given = {field: getattr(config, field) for field in StrategyConfig.model_fields}
    return StrategyConfig(**given | {"strategy": name})


def _forecast(strategy: Strategy, under: Conditions, run_after: float) -> Forecast:
    """Forecast one strategy; lazy copy ends with the guest."""
    cost = play_strategy(strategy, under)
    if strategy.name != LazyCopy.name:
        gave_up = strategy.converged is False and not cost.switched
        return Forecast(strategy.name, cost, gave_up=gave_up)
    # Only the guest's writes are known, not all that it touches: this is the least that is moved.
    size = min(under.stale(run_after).pages * under.missing_page_bytes, under.full_bytes)
    total_s = under.switchover_s + run_after
    lazy = Cost(cost.downtime_s, total_s, round(size), cost.rounds, cost.path, cost.switched)
    return Forecast(strategy.name, lazy, ends=False)


@dataclass(frozen=True, slots=True)
class StrategyChoice:
    """Which strategy, and why.

    Attributes:
        strategy: The strategy's name.
        why: A clause.
    """

    strategy: str
    why: str


def choose_strategy(expected: Sequence[Forecast], limit_s: float) -> StrategyChoice:
    """Choose the strategy of the least total time among those that hold the downtime limit.

    Those within `TIE_SHARE` of it count as equal: among them, one that never has the guest wait for
    missing pages comes first, then the one of the least downtime. A strategy that does not end by
    itself is never chosen. Where none holds the limit, it is the one of the least downtime.

    Args:
        expected: Forecasts, at least one of which ends by itself.
        limit_s: `--downtime-limit`.

    Returns:
        The strategy, and why.
    """
    able = [each for each in expected if each.ends]
    holding = [each for each in able if each.cost.downtime_s <= limit_s]
    if not holding:
        best = min(able, key=lambda each: each.cost.downtime_s)
        return StrategyChoice(
            best.strategy,
            f"none is expected to hold the downtime limit of {format_time(limit_s)}; it has the"
            f" least downtime, {_ms(best.cost.downtime_s)}",
        )
    least_s = min(each.cost.total_s for each in holding)
    near = [each for each in holding if each.cost.total_s <= (1 + TIE_SHARE) * least_s]
    best = min(near, key=lambda each: (each.cost.switched, each.cost.downtime_s))
    why = (
        f"of the {len(holding)} that are expected to hold the downtime limit of"
        f" {format_time(limit_s)}"
    )
    if len(near) == 1:
        return StrategyChoice(
            best.strategy, f"{why} it is over first, after {_ms(best.cost.total_s)}"
        )
    why += f", {len(near)} are over within {TIE_SHARE:.0%} of {_ms(least_s)}; of these it"
    if not best.cost.switched and any(each.cost.switched for each in near):
        return StrategyChoice(best.strategy, f"{why} never has the guest wait for pages")
    return StrategyChoice(
        best.strategy, f"{why} has the least downtime, {_ms(best.cost.downtime_s)}"
    )


def _ms(seconds: float) -> str:
    """Write seconds as milliseconds."""
    return f"{figures(seconds * 1e3, 4)} ms"
