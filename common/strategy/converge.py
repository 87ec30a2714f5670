"""Auto-converge: slow down a guest that dirties memory faster than the link carries it.

It follows QEMU's rule, with its parameters. A period is *high* when more than half as much
(`TRIGGER`) was dirtied in it as was sent. After two high ones in a row the guest is throttled by
the initial share, after each further one by an increment more, up to the most.

QEMU's two need not be in a row, and it wants two for each further step, too (migration/ram.c,
`migration_trigger_throttle`): a period that is not high leaves its count as it is. It counts only
pages that were not marked before, as `fresh_bytes` here, and looks when it syncs its bitmap, at
most once a second; since 9.2 a sync comes after 5 s at the latest. What else differs here is when
the guest is looked at, and by how much the throttle rises:

    within a round   The dirty log is looked at twice a second, so that a round of a minute does not
                     pass before anything is known. What the first pass tells counts for the next
                     round only: it sends every page whatever the guest does.
    at its end       The next round's throttle is decided. A round in which nobody looked is a
                     period itself.
    by how much      At least an increment, and as much as the measured rate calls for. Raised by
                     increments alone, the guest stands at 20, 30, 40 % for rounds that all end as
                     they began: slowed, and for nothing.

Within a round the throttle rises only while that can still help it: while pages that were clean
become dirty. When all that the guest writes to has become stale, the round's end is soon enough.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from pageferry.common.config.strategy import StrategyConfig
from pageferry.common.units import human_bytes

LOOK_S: Final = 0.5  # a period
EARLY_S: Final = 0.02  # from its start to a first look at what the guest dirties at once
TRIGGER: Final = 0.5  # QEMU's throttle-trigger-threshold
IN_A_ROW: Final = 2
# What a raise aims at. At the trigger itself every other period would be high by chance.
AIM: Final = 0.8 * TRIGGER


@dataclass(frozen=True, slots=True)
class Period:
    """What happened between two looks at the dirty log, or in a round.

    Attributes:
        dirtied_bytes: Pages that were written to, each once, as bytes of whole pages.
        fresh_bytes: Those among them that were not stale yet.
        sent_bytes: What went over the wire.
        early_bytes: What of `dirtied_bytes` was dirtied in the period's first `early_share`.
        early_share: The beginning of the period, from 0 to 1; 0: nobody looked early.
    """

    dirtied_bytes: int
    fresh_bytes: int
    sent_bytes: int
    early_bytes: int = 0
    early_share: float = 0.0

    def part_for(self, size: float) -> float:
        """Compute in which part of the period so many bytes were dirtied.

        It goes through what was measured, and straight in between. A working set that is soon dirty
        as a whole hides how fast that was: its early look tells.

        Args:
            size: Bytes of whole pages.

        Returns:
            A share of the period; more than 1 where fewer bytes were dirtied.
        """
        if 0 < size < self.early_bytes:
            return self.early_share * size / self.early_bytes
        later = max(self.dirtied_bytes - self.early_bytes, 1)
        return self.early_share + (1 - self.early_share) * (size - self.early_bytes) / later

    def scaled(self, ratio: float) -> Period:
        """Count what was dirtied as what it will cost on the wire.

        Args:
            ratio: The share of its size that it costs, compressed or as deltas.

        Returns:
            A copy; `sent_bytes` stays.
        """
        if ratio == 1:
            return self
        sizes = (self.dirtied_bytes, self.fresh_bytes, self.early_bytes)
        dirtied, fresh, early = (round(size * ratio) for size in sizes)
        return replace(self, dirtied_bytes=dirtied, fresh_bytes=fresh, early_bytes=early)

    @property
    def is_high(self) -> bool:
        """Whether the guest dirties more than the trigger allows."""
        return self.dirtied_bytes > TRIGGER * self.sent_bytes

    @property
    def hurries(self) -> bool:
        """Whether clean pages become dirty as fast as that."""
        return self.fresh_bytes > TRIGGER * self.sent_bytes


@dataclass(slots=True)
class AutoConverge:
    """How much the guest is to be throttled.

    Attributes:
        config: The shares to throttle by.
        throttle: The share of its time in which the guest must not run.
        high: How many periods in a row were high.
        hurried: How many in a row of this round were high in fresh bytes.
        seen: The last period of this round; None: nobody looked.
    """

    config: StrategyConfig
    throttle: float = 0.0
    high: int = 0
    hurried: int = 0
    seen: Period | None = None

    def during_round(self, period: Period, *, first_pass: bool) -> str | None:
        """Look at a period within a round, and raise the throttle where it is due.

        Args:
            period: What happened since the last look.
            first_pass: Whether this is the round that sends every page.

        Returns:
            A sentence if the throttle has risen; None: it has not.
        """
        self._note(period)
        self.hurried = self.hurried + 1 if period.hurries else 0
        if first_pass or self.hurried < IN_A_ROW or not self._is_due:
            return None
        self.hurried = 0
        return self._rise(period)

    def at_end(self, whole: Period) -> str | None:
        """End a round, and raise the throttle for the next one where it is due.

        Args:
            whole: The whole round; it counts only where nobody looked within it.

        Returns:
            A sentence if the throttle has risen; None: it has not.
        """
        seen = self.seen or whole
        if self.seen is None:
            self._note(whole)
        self.seen, self.hurried = None, 0
        return self._rise(seen) if self._is_due else None

    def _note(self, period: Period) -> None:
        """Count a period."""
        self.high = self.high + 1 if period.is_high else 0
        self.seen = period

    @property
    def _is_due(self) -> bool:
        """Whether the throttle is to rise."""
        most = self.config.max_cpu_throttle
        return self.high >= (1 if self.throttle else IN_A_ROW) and self.throttle < most

    def _rise(self, period: Period) -> str:
        """Raise the throttle as a period calls for that had the present throttle."""
        config, before = self.config, self.throttle
        wanted = 1 - (1 - before) * period.part_for(AIM * period.sent_bytes)
        rise = max(before + config.cpu_throttle_increment, wanted) if before else 0.0
        self.throttle = min(max(rise, config.cpu_throttle_initial), config.max_cpu_throttle)
        self.high = 0
        return (
            f"{human_bytes(period.dirtied_bytes)} were dirtied while"
            f" {human_bytes(period.sent_bytes)} were sent:"
            f" the guest is throttled by {100 * self.throttle:.3g} %"
        )
