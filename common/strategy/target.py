"""Whether a stop is taken: what pre-copy and hybrid mean by `--downtime-limit`.

The estimate is made while the guest still runs. Until the pause has taken hold it dirties more, and
a bandwidth that was measured over one round differs from the next round's by some tens of percent
on a busy host. A limit that is aimed at exactly is exceeded about every other time, so as long as
rounds shrink, only a part of it (`TARGET_SHARE`) is planned with.

Rounds shrink until what is fixed in each (the round trip, the hand-over) lets the guest dirty as
much as was sent. Waiting for rounds that come to rest between that part and the limit would be in
vain: once a stop has become no cheaper than `STALL_SHARE` of the cheapest before in `STALLED`
rounds in a row, one that fits the limit itself is taken. One round says little, as a busy host may
have held it up. What counts as cheaper does not depend on the limit, so a larger limit never means
more rounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

from pageferry.common.strategy.base import RoundStats
from pageferry.common.units import figures, format_time

TARGET_SHARE: Final = 0.7
# Rounds that do not shrink to less than this part of the one before do not pay for themselves.
STALL_SHARE: Final = 0.9
STALLED: Final = 2


class Verdict(NamedTuple):
    """What is to be done after a round.

    Attributes:
        fits: Whether a stop is taken now.
        fits_limit: Whether a stop is expected to fit the limit itself.
        reason: A clause, with the figures.
    """

    fits: bool
    fits_limit: bool
    reason: str


@dataclass(slots=True)
class Target:
    """A judge of stops, asked once after each round.

    Attributes:
        limit_s: `--downtime-limit`.
        least_s: The least that a stop was expected to take so far.
        stalled: Rounds in a row since then that have not made it much less.
    """

    limit_s: float
    least_s: float = math.inf
    stalled: int = 0

    def judge(self, stats: RoundStats) -> Verdict:
        """Judge a stop right now.

        Args:
            stats: The round just finished, each round once.

        Returns:
            Whether to take the stop, and why.
        """
        expected_s, limit_s = stats.expected_downtime_s, self.limit_s
        target_s = TARGET_SHARE * limit_s
        self.stalled = self.stalled + 1 if expected_s > STALL_SHARE * self.least_s else 0
        self.least_s = min(self.least_s, expected_s)
        said = f"an expected downtime of {_ms(expected_s)}"
        aim = f"{_ms(target_s)}, {TARGET_SHARE:.0%} of {format_time(limit_s)}"
        if expected_s <= target_s:
            return Verdict(True, True, f"{said} fits in {aim}")
        if expected_s > limit_s:
            return Verdict(False, False, f"{said} is more than {aim}")
        if self.stalled >= STALLED:
            return Verdict(
                True, True, f"{said} fits in {format_time(limit_s)}, and rounds no longer shrink"
            )
        return Verdict(
            False, True, f"{said} is more than {aim}, and another round may make it less"
        )


def _ms(seconds: float) -> str:
    """Write seconds as milliseconds."""
    return f"{figures(seconds * 1e3, 4)} ms"
