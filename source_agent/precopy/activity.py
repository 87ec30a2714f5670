"""Where in memory a migration was at work: which pages were dirtied and sent, round by round."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pageferry.common.report.page_bins import Binning, Bins
from pageferry.source_agent.precopy.batches import RoundPages


@dataclass(frozen=True, slots=True)
class Column:
    """One round. Times are CLOCK_MONOTONIC ns; dirtied: stale at its end; both int64[bins]."""

    start_ns: int
    end_ns: int
    phase: str
    dirtied: Bins
    sent: Bins


@dataclass(frozen=True, slots=True)
class WriteCounts:
    """Lines that the guest wrote, and those that reached memory; uint64[n_pages] each."""

    writes: NDArray[np.uint64]
    write_backs: NDArray[np.uint64]


class Activity:
    """What the rounds of one migration did to which pages.

    sends: uint32[n_pages], times that a page went; columns: a round each, then the switch.
    """

    def __init__(self, n_pages: int) -> None:
        self.binning = Binning(n_pages)
        self.sends: NDArray[np.uint32] = np.full(n_pages, 0, np.uint32)
        self.columns: list[Column] = []
        self.dirtied = self.binning.zeros()  # for the kernel that counts stale pages
        self._left: tuple[int, str, RoundPages] | None = None

    def round_done(self, start_ns: int, end_ns: int, phase: str, round_pages: RoundPages) -> None:
        """A round has been acknowledged, and `dirtied` says what is stale now."""
        sent = self._count(round_pages)
        self.columns.append(Column(start_ns, end_ns, phase, self.dirtied.copy(), sent))

    def _count(self, round_pages: RoundPages) -> Bins:
        for pages in (round_pages.whole, round_pages.lined):
            self.sends[pages] += 1
        return self.binning.count(round_pages.whole) + self.binning.count(round_pages.lined)

    def stopped(self, start_ns: int, round_pages: RoundPages) -> None:
        """Note the last round, whose pages stay as they are; `settle` counts it."""
        self._left = start_ns, "final", round_pages

    def settle(self, end_ns: int) -> None:
        """The downtime is over."""
        if self._left is not None:
            start_ns, phase, round_pages = self._left
            self._left = None
            self.dirtied[:] = 0
            self.round_done(start_ns, end_ns, phase, round_pages)

    def switched(self, missing: NDArray[np.bool_]) -> None:
        """Pages (bool[n_pages]) that travel after the guest has resumed there."""
        self.sends[missing] += 1
