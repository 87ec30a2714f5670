"""Slowing the guest down as the strategy says, and what the strategy is told during a round."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.guest.machine import Guest
from pageferry.common.guest.stale import merge, new_masks
from pageferry.common.strategy.base import Throttled
from pageferry.common.strategy.converge import Period
from pageferry.common.timeline import Timeline
from pageferry.common.units import PAGE_SIZE
from pageferry.source_agent.precopy.page_sender import PageSender

OnPeriod = Callable[[Period], Throttled | None]
_DIRTIED: Final = 0
_FRESH: Final = 1


class Throttling:
    """How the guest is throttled, now and before; used only on the session's worker.

    Args:
        guest: The guest to throttle.
        page_sender: Says how much has been sent.
        timeline: Is told of each change.
        stale: uint64[n_pages], the masks in which the rounds collect; looks add to them.

    Attributes:
        growth: (seconds, stale pages) as seen by looks in the first round that is watched.
        ratio: What dirtied pages cost of their size, where they travel compressed or as deltas.
    """

    def __init__(
        self, guest: Guest, page_sender: PageSender, timeline: Timeline, stale: NDArray[np.uint64]
    ) -> None:
        self._guest = guest
        self._page_sender = page_sender
        self._timeline = timeline
        self._stale = stale
        self._dirtied: NDArray[np.uint64] | None = None
        self._counts = np.zeros(2, np.int64)
        self._changes = [(0, 0.0)]
        self.growth: list[tuple[float, int]] = []
        self.ratio = 1.0
        self._watched = False

    @property
    def share(self) -> float:
        """The share of its time in which the guest must not run, now."""
        return self._changes[-1][1]

    @property
    def peak(self) -> float:
        """The largest share so far."""
        return max(share for _, share in self._changes)

    def average(self, start_ns: int, end_ns: int) -> float:
        """Return the average share over a stretch of time.

        Args:
            start_ns: Its beginning, CLOCK_MONOTONIC ns.
            end_ns: Its end, CLOCK_MONOTONIC ns.

        Returns:
            The share, weighted by time.
        """
        total = 0.0
        for (begun, share), (ended, _) in pairwise([*self._changes, (end_ns, 0.0)]):
            total += max(0, min(ended, end_ns) - max(begun, start_ns)) * share
        return total / max(end_ns - start_ns, 1)

    def begin(self, share: float, why: str | None = None) -> None:
        """Throttle the guest by this share from now on; costs nothing where that changes nothing.

        Args:
            share: Of its time, 0 (no longer) to below 1.
            why: For the timeline; None: it was ordered with the round.
        """
        if share == self.share:
            return
        self._guest.throttle(share)
        self._changes.append((time.monotonic_ns(), share))
        self._timeline.log("throttle", share=share, why=why or "ordered with the round")

    def watch(self, watcher: OnPeriod) -> Callable[[bool], None]:
        """Begin to watch a round that has taken its pages.

        Args:
            watcher: Is told of each period; what it answers throttles the guest.

        Returns:
            What to call now and then while the round sends; see `RoundDirtySampler.look` for its
            argument.
        """
        if self._dirtied is None:
            self._dirtied = new_masks(self._guest.n_pages)
            merge(self._dirtied[:0], self._dirtied[:0], self._counts, False)  # load the kernel now
        self._dirtied.fill(0)  # pages that this round sends, or that are in `stale`
        growth = [] if self._watched else self.growth
        self._watched = True
        sampler = RoundDirtySampler(
            self._guest, self._page_sender, self._dirtied, self._stale, self._counts, growth
        )

        def look(early: bool) -> None:
            period = sampler.look(early=early)
            period = None if period is None else period.scaled(self.ratio)
            throttled = None if period is None else watcher(period)
            if throttled is not None:
                self.begin(throttled.share, throttled.reason)

        return look


class RoundDirtySampler:
    """Looks at the dirty log during one round.

    Each look takes what was written since the last one out of the log, where the next round would
    have taken it from, and adds it to `stale` at once.

    Args:
        guest: Its log is harvested.
        page_sender: Says how much has been sent.
        dirtied: uint64[n_pages], zero; collects what the present period has seen.
        stale: uint64[n_pages], the masks in which the rounds collect.
        counts: int64[2], overwritten by each look.
        growth: Gets (seconds since the round took its pages, stale pages) of each look.
    """

    def __init__(
        self,
        guest: Guest,
        page_sender: PageSender,
        dirtied: NDArray[np.uint64],
        stale: NDArray[np.uint64],
        counts: NDArray[np.int64],
        growth: list[tuple[float, int]],
    ) -> None:
        self._guest = guest
        self._page_sender = page_sender
        self._dirtied = dirtied
        self._stale = stale
        self._counts = counts
        self._growth = growth
        self._start_ns = self._period_ns = time.monotonic_ns()
        self._sent = page_sender.sent_bytes
        self._early: tuple[int, int] | None = None  # when, and how many pages
        self._fresh = 0  # of this period
        self._stale_pages = 0  # of this round

    def look(self, *, early: bool) -> Period | None:
        """Look at the dirty log, and end the period unless the look is an early one.

        Args:
            early: Whether this is the look soon after the period's beginning.

        Returns:
            The period that ends here; None after an early look, or where nothing was sent since the
            period began.
        """
        sent = self._page_sender.sent_bytes - self._sent
        if not early and sent == 0:
            return None  # a stalled link says nothing about the guest
        self._guest.harvest(self._dirtied)
        now_ns = time.monotonic_ns()
        merge(self._dirtied, self._stale, self._counts, early)
        pages, fresh = int(self._counts[_DIRTIED]), int(self._counts[_FRESH])
        self._fresh += fresh
        self._stale_pages += fresh
        self._growth.append(((now_ns - self._start_ns) / 1e9, self._stale_pages))
        if early:
            self._early = self._early or (now_ns, pages)
            return None
        early_ns, early_pages = self._early or (self._period_ns, 0)
        share = (early_ns - self._period_ns) / max(now_ns - self._period_ns, 1)
        sizes = (pages * PAGE_SIZE, self._fresh * PAGE_SIZE)
        self._sent += sent
        self._period_ns, self._early, self._fresh = now_ns, None, 0
        return Period(*sizes, sent, early_pages * PAGE_SIZE, share)
