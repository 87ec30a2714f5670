"""Which pages a destination has not the latest content of, line by line."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.guest.machine import Guest
from pageferry.common.guest.stale import COUNTS, count_stale, new_masks, take_missing, take_stale
from pageferry.common.wire.extents import Pages
from pageferry.common.wire.frames import MOST_LINES
from pageferry.source_agent.precopy.activity import Activity
from pageferry.source_agent.precopy.batches import RoundPages

_EVERY_LINE: Final = np.uint64(2**64 - 1)


class StalePages:
    """What the dirty log gave, and no round has sent yet.

    Args:
        guest: Its log is harvested; it may run.
        activity: Its `dirtied` is overwritten by each count.
        by_line: Whether a page that was sent before goes as its changed lines where that is
            shorter.

    Attributes:
        masks: uint64[n_pages]; a bit for each line that is stale in memory.
        ever_sent: bool[n_pages], pages that were sent at least once; written by whoever sends.
    """

    def __init__(self, guest: Guest, activity: Activity, *, by_line: bool) -> None:
        self._guest = guest
        self._activity = activity
        self._most_lines = MOST_LINES if by_line else 0
        self.masks = new_masks(guest.n_pages)
        self.ever_sent: NDArray[np.bool_] = np.zeros(guest.n_pages, np.bool_)
        self._cached = new_masks(guest.n_pages)
        self._whole: Pages = np.arange(guest.n_pages)
        self._lined: Pages = np.arange(guest.n_pages)
        self._lines = new_masks(guest.n_pages)
        self._counts = np.zeros(COUNTS, np.int64)
        self._missing = np.full((guest.n_pages + 7) // 8, 0, np.uint8)
        # Load the kernels now: in the final stop that would add to the downtime.
        self._count()
        self.take()
        take_missing(self.masks, self.ever_sent, self._missing)
        self.ever_sent.fill(False)

    def harvest(self) -> None:
        """Add what the guest has written since the last time."""
        self._guest.harvest(self.masks)

    def take(self, *, whole_pages: bool = False) -> RoundPages:
        """Take the stale pages, which are then stale no longer.

        Args:
            whole_pages: Whether none of them goes by line.

        Returns:
            The pages, valid until the next call.
        """
        most = 0 if whole_pages else self._most_lines
        n, m = take_stale(self.masks, self.ever_sent, most, self._whole, self._lined, self._lines)
        return RoundPages(self._whole[:n], self._lined[:m], self._lines[:m])

    def take_all(self) -> RoundPages:
        """Take every page of the guest; none is stale any longer.

        Returns:
            All pages, whole.
        """
        self.masks.fill(0)
        return RoundPages(np.arange(self._guest.n_pages))

    def put_back(self, pages: RoundPages, left: RoundPages) -> RoundPages:
        """Make stale again what was left by a round that was cut short.

        Args:
            pages: What the round was to send.
            left: What of it was not sent.

        Returns:
            What the round did send.
        """
        self.masks[left.whole] = _EVERY_LINE
        self.masks[left.lined] |= left.masks
        kept = np.isin(pages.lined, left.lined, assume_unique=True, invert=True)
        whole = np.setdiff1d(pages.whole, left.whole, assume_unique=True)
        return RoundPages(whole, pages.lined[kept], pages.masks[kept])

    def count(self) -> NDArray[np.int64]:
        """Count what is stale in memory, in the cache, and in either.

        Returns:
            int64[COUNTS], words of `common.guest.stale`; valid until the next call.
        """
        # The cache first: a line written back in between is then in the log.
        self._guest.cached_dirty(self._cached)
        self.harvest()
        return self._count()

    def _count(self) -> NDArray[np.int64]:
        count_stale(
            self.masks,
            self._cached,
            self.ever_sent,
            self._most_lines,
            self._activity.dirtied,
            self._activity.binning.per_bin,
            self._counts,
        )
        return self._counts

    def missing(self) -> tuple[bytes, int]:
        """Take the pages that the paused guest's destination lacks; none is stale any longer.

        The cache need not have been drained: what it holds counts.

        Returns:
            The pages, a bit a page, least significant first, and how many of them had been sent
            before.
        """
        self._guest.cached_dirty(self.masks)
        self.harvest()
        resent = take_missing(self.masks, self.ever_sent, self._missing)
        return self._missing.tobytes(), int(resent)
