"""Slowing the guest down as the strategy says, and what it is told of the guest during a round."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.guest.machine import Guest
from common.guest.stale import merge, new_masks
from common.strategy.base import Throttled
from common.strategy.converge import Period
from common.timeline import Timeline
from common.units import PAGE_SIZE
from source_agent.outflow import Outflow

Watcher = Callable[[Period], Throttled | None]
_DIRTIED: Final = 0
_FRESH: Final = 1


class Throttling:
    """What the guest is throttled by, now and before; only ever asked on the session's worker.

    stale: the masks that the rounds collect in. share: at present; growth: (seconds, pages that
    were stale) as seen by looks in the first round.
    """

    def __init__(
        self, guest: Guest, outflow: Outflow, timeline: Timeline, stale: NDArray[np.uint64]
    ) -> None:
        self._guest = guest
        self._outflow = outflow
        self._timeline = timeline
        self._stale = stale
        self._dirtied: NDArray[np.uint64] | None = None
        self._counts = np.zeros(2, np.int64)
        self._changes = [(0, 0.0)]
        self.growth: list[tuple[float, int]] = []
        self._rounds = 0

    @property
    def share(self) -> float:
        """Of its time in which the guest must not run; now."""
        return self._changes[-1][1]

    @property
    def peak(self) -> float:
        """The most so far."""
        return max(share for _, share in self._changes)

    def average(self, start_ns: int, end_ns: int) -> float:
        """Over this time."""
        total = 0.0
        for (begun, share), (ended, _) in pairwise([*self._changes, (end_ns, 0.0)]):
            total += max(0, min(ended, end_ns) - max(begun, start_ns)) * share
        return total / max(end_ns - start_ns, 1)

    def begin(self, share: float, why: str | None = None) -> None:
        """From now on. What stays as it is costs nothing."""
        if share == self.share:
            return
        self._guest.throttle(share)
        self._changes.append((time.monotonic_ns(), share))
        self._timeline.log("throttle", share=share, why=why or "ordered with the round")

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """A round has taken its pages: what to call now and then while it sends them.

        Each call takes what has been written since the last one out of the dirty log, where the
        next round would have taken it from, and tells the watcher.
        """
        if self._dirtied is None:
            self._dirtied = new_masks(self._guest.n_pages)
            merge(self._dirtied[:1], self._dirtied[1:2], self._counts)  # loaded now
        dirtied, counts = self._dirtied, self._counts
        self._rounds += 1
        first = self._rounds == 1
        start_ns, stale_pages = time.monotonic_ns(), 0
        sent_before = self._outflow.sent_bytes

        def look() -> None:
            nonlocal sent_before, stale_pages
            sent = self._outflow.sent_bytes
            if sent == sent_before:
                return  # a link that stands still says nothing about the guest
            self._guest.harvest(dirtied)
            merge(dirtied, self._stale, counts)
            pages, fresh = int(counts[_DIRTIED]), int(counts[_FRESH])
            stale_pages += fresh
            if first:
                self.growth.append(((time.monotonic_ns() - start_ns) / 1e9, stale_pages))
            throttled = watcher(Period(pages * PAGE_SIZE, fresh * PAGE_SIZE, sent - sent_before))
            sent_before = sent
            if throttled is not None:
                self.begin(throttled.share, throttled.reason)

        return look
