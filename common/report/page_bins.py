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
    """At most `MOST_BINS` bins of `per_bin` pages each, the last one perhaps of fewer."""

    def __init__(self, n_pages: int) -> None:
        self.n_pages = n_pages
        self.per_bin = -(-n_pages // MOST_BINS)
        self.bins = -(-n_pages // self.per_bin)
        self._starts = np.arange(0, n_pages, self.per_bin)

    def zeros(self) -> Bins:
        """int64[bins]."""
        return np.zeros(self.bins, np.int64)

    def count(self, pages: NDArray[np.int64]) -> Bins:
        """Page numbers, int64[n], to how many of them each bin has."""
        return np.bincount(pages // self.per_bin, minlength=self.bins)

    def add_up(self, values: NDArray[np.generic]) -> Bins:
        """Something of each page, [n_pages], to the sum of each bin."""
        return np.asarray(np.add.reduceat(values, self._starts, dtype=np.int64), np.int64)
