"""Where in memory a migration was at work: which pages were dirtied and sent, round by round."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pageferry.common.report.page_bins import Binning, Bins
from pageferry.source_agent.precopy.batches import RoundPages


@dataclass(frozen=True, slots=True)
class RoundActivity:
    """One round.

    Attributes:
        start_ns: When it began, CLOCK_MONOTONIC ns.
        end_ns: When it ended, CLOCK_MONOTONIC ns.
        phase: The round's kind: full, dirty, drain or final.
        dirtied: int64[bins], pages that were stale at its end.
        sent: int64[bins], pages that it sent.
    """

    start_ns: int
    end_ns: int
    phase: str
    dirtied: Bins
    sent: Bins


class Activity:
    """What the rounds of one migration did to which pages.

    Args:
        n_pages: Pages of the guest.

    Attributes:
        binning: How pages are put into bins.
        sends: uint32[n_pages], how often each page was sent.
        columns: One for each round, in order; that of the stop comes with `settle`.
        dirtied: int64[bins], written by the kernel that counts stale pages.
    """

    def __init__(self, n_pages: int) -> None:
        self.binning = Binning(n_pages)
        self.sends: NDArray[np.uint32] = np.full(n_pages, 0, np.uint32)
        self.columns: list[RoundActivity] = []
        self.dirtied = self.binning.zeros()  # for the kernel that counts stale pages
        self._left: tuple[int, str, RoundPages] | None = None

    def round_done(self, start_ns: int, end_ns: int, phase: str, round_pages: RoundPages) -> None:
        """Add the column of a round that was acknowledged; `dirtied` says what is stale now.

        Args:
            start_ns: When the round began, CLOCK_MONOTONIC ns.
            end_ns: When it was acknowledged, CLOCK_MONOTONIC ns.
            phase: The round's kind.
            round_pages: What it has sent.
        """
        sent = self._count(round_pages)
        self.columns.append(RoundActivity(start_ns, end_ns, phase, self.dirtied.copy(), sent))

    def _count(self, round_pages: RoundPages) -> Bins:
        for pages in (round_pages.whole, round_pages.lined):
            self.sends[pages] += 1
        return self.binning.count(round_pages.whole) + self.binning.count(round_pages.lined)

    def stopped(self, start_ns: int, round_pages: RoundPages) -> None:
        """Note the last round, which `settle` counts outside the downtime.

        Args:
            start_ns: When the stop began, CLOCK_MONOTONIC ns.
            round_pages: What was sent in the stop; must stay as it is until `settle`.
        """
        self._left = start_ns, "final", round_pages

    def settle(self, end_ns: int) -> None:
        """Count the last round, if there was one, now that the downtime is over.

        Args:
            end_ns: When its end became known here, CLOCK_MONOTONIC ns.
        """
        if self._left is not None:
            start_ns, phase, round_pages = self._left
            self._left = None
            self.dirtied[:] = 0
            self.round_done(start_ns, end_ns, phase, round_pages)

    def switched(self, missing: NDArray[np.bool_]) -> None:
        """Count the pages that travel after the guest has resumed at the destination.

        Args:
            missing: bool[n_pages], the pages that are missing there.
        """
        self.sends[missing] += 1
