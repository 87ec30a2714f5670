"""Pages in bins: what happened where in memory, coarse enough to be shown."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

MOST_BINS: Final = 256
MOST_COLUMNS: Final = 400
BARS_PER_DECADE: Final = 12  # of latencies, on a logarithmic axis
MOST_BARS: Final = 19 * BARS_PER_DECADE  # from a nanosecond to 2**63 of them

Bins = NDArray[np.int64]


class Binning:
    """At most `MOST_BINS` bins of pages; the last one may have fewer pages than the others.

    Args:
        n_pages: Of the guest, at least one.

    Attributes:
        n_pages: Of the guest.
        per_bin: Pages in each bin.
        bins: How many bins there are.
    """

    def __init__(self, n_pages: int) -> None:
        self.n_pages = n_pages
        self.per_bin = -(-n_pages // MOST_BINS)
        self.bins = -(-n_pages // self.per_bin)
        self._starts = np.arange(0, n_pages, self.per_bin)

    def zeros(self) -> Bins:
        """Make a count of nothing.

        Returns:
            int64[bins].
        """
        return np.zeros(self.bins, np.int64)

    def count(self, pages: NDArray[np.int64]) -> Bins:
        """Count pages by bin.

        Args:
            pages: int64[n], page numbers; each occurrence counts.

        Returns:
            int64[bins].
        """
        return np.bincount(pages // self.per_bin, minlength=self.bins)

    def add_up(self, values: NDArray[np.generic]) -> Bins:
        """Add up a quantity of each page by bin.

        Args:
            values: [n_pages], of any integer or boolean type.

        Returns:
            int64[bins].
        """
        return np.asarray(np.add.reduceat(values, self._starts, dtype=np.int64), np.int64)
