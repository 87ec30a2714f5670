"""Percentiles by the nearest rank, of values that come one after another, in bounded memory.

The nearest rank is numpy's `inverted_cdf`: the least value that a share q of all values does not
exceed. It is one of the values, so no percentile lies between two of them, or above the greatest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

MOST_DISTINCT: Final = 2**22  # values that are told apart; they take 64 MiB at most
_GATHERED: Final = 2**16  # values that wait to be counted, at least


class Ranks:
    """Values (integers from 0 to 2**53) and how often each was seen.

    Exact up to `most` different values. From there on neighbours are counted as the greater one of
    them, so that every answer is a value that was seen, and is above the exact one by less than
    `step`. The greatest is always exact.

    Args:
        most: How many different values are told apart.

    Attributes:
        step: How close neighbours are that are counted as one; 1: all values are exact.
    """

    def __init__(self, most: int = MOST_DISTINCT) -> None:
        self._most = most
        self._values = np.zeros(0, np.int64)
        self._counts = np.zeros(0, np.int64)
        self._many: list[NDArray[np.int64]] = []
        self._waiting = 0
        self._single: dict[int, int] = {}
        self.step = 1

    def add(self, value: int, times: int = 1) -> None:
        """Count one value.

        Args:
            value: From 0 to 2**53.
            times: How often it was seen.
        """
        self._single[value] = self._single.get(value, 0) + times
        if len(self._single) >= _GATHERED:
            self._count()

    def extend(self, values: NDArray[np.int64]) -> None:
        """Count many values, each once.

        Args:
            values: int64[n], from 0 to 2**53; copied.
        """
        self._many.append(values.copy())
        self._waiting += values.size
        if self._waiting >= max(_GATHERED, self._values.size // 4):
            self._count()

    def _count(self) -> None:
        """Sort what has come, and add equal values up."""
        single, self._single = self._single, {}
        many, self._many, self._waiting = self._many, [], 0
        if not single and not many:
            return
        some = [np.fromiter(each, np.int64, len(single)) for each in (single, single.values())]
        values = np.concatenate([self._values, some[0], *many])
        counts = np.ones(values.size, np.int64)
        counts[: self._counts.size] = self._counts
        counts[self._counts.size :][: len(single)] = some[1]
        order = np.argsort(values, kind="stable")
        self._values, self._counts = _summed(values[order], counts[order], self.step)
        while self._values.size > self._most:
            self.step *= 2
            self._values, self._counts = _summed(self._values, self._counts, self.step)

    @property
    def total(self) -> int:
        """How many values were seen."""
        self._count()
        return int(self._counts.sum())

    def at(self, shares: Sequence[float]) -> list[int]:
        """Return the values at given shares.

        Args:
            shares: From 0 to 1, in any order.

        Returns:
            The percentile for each share.

        Raises:
            ValueError: No value was seen.
        """
        self._count()
        if not self._values.size:
            raise ValueError("no values, so that they have no percentiles")
        found = np.quantile(self._values, shares, weights=self._counts, method="inverted_cdf")
        return [int(each) for each in found]

    def counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the different values and how often each was seen.

        Returns:
            Values, the least first, and counts, both int64[n]; not to be written to.
        """
        self._count()
        return self._values, self._counts


def _summed(
    values: NDArray[np.int64], counts: NDArray[np.int64], step: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count sorted values that lie within one step as the greatest of them."""
    if not values.size:
        return values, counts
    cells = values // step
    last = np.flatnonzero(np.append(cells[1:] != cells[:-1], True))
    sums = np.cumsum(counts)[last]
    return values[last], np.diff(sums, prepend=0)
