"""Pages at random, a few of them much more likely than the rest."""

from __future__ import annotations

import functools
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.guest.jit import kernel
from pageferry.common.guest.native import signed
from pageferry.common.guest.rng import mix
from pageferry.common.guest.seeds import derive
from pageferry.common.guest.workloads.visiting import VisitWorkload
from pageferry.common.guest.workloads.visits import TABLE
from pageferry.common.workload.region import Region

_LN2: Final = 0.6931471805599453
_ONE: Final = 2.0**32  # thresholds are 32-bit fractions


@kernel
def _logarithm(x: float) -> float:
    """Compute ln x for x >= 1 with IEEE basic operations alone: the same bits on every host.

    A maths library may round differently on another machine, and then the guest at the destination
    would visit other pages than its replay at the source. ln m = 2 artanh((m - 1) / (m + 1)).
    """
    halvings = 0
    while x > 1.5:
        x *= 0.5
        halvings += 1
    z = (x - 1.0) / (x + 1.0)
    power, total = z, 0.0
    for k in range(1, 40, 2):
        total += power / k
        power *= z * z
    return 2.0 * total + halvings * _LN2


@kernel
def _exponential(x: float) -> float:
    """Compute e^x for x <= 0 in the same way."""
    halvings = signed(-x / _LN2)
    rest = x + halvings * _LN2
    term, total = 1.0, 1.0
    for k in range(1, 25):
        term *= rest / k
        total += term
    for _ in range(halvings):
        total *= 0.5
    return total


@kernel
def _permute(pages: NDArray[np.int64], seed: np.uint64) -> None:
    """Shuffle by Fisher-Yates."""
    for i in range(len(pages) - 1, 0, -1):
        j = signed(mix(seed + np.uint64(i)) % np.uint64(i + 1))
        pages[i], pages[j] = pages[j], pages[i]


@kernel
def _alias(
    weights: NDArray[np.float64],
    pages: NDArray[np.int64],
    queue: NDArray[np.int64],
    table: NDArray[np.uint64],
) -> None:
    """Build the table of Walker's alias method as Vose (1991) does.

    Ranks below the mean wait at the queue's front, those above at its back; every small one is
    topped up by a large one. `queue` is scratch of the same length as `weights`.
    """
    n = len(weights)
    small, large = 0, n
    for i in range(n):
        if weights[i] < 1.0:
            queue[small] = i
            small += 1
        else:
            large -= 1
            queue[large] = i
    for i in range(n):
        both = np.uint64(pages[i])
        table[2 * i] = np.uint64(_ONE)
        table[2 * i + 1] = both << np.uint64(32) | both
    while small > 0 and large < n:
        small -= 1
        low, high = queue[small], queue[large]
        table[2 * low] = np.uint64(signed(weights[low] * _ONE))
        table[2 * low + 1] = np.uint64(pages[low]) << np.uint64(32) | np.uint64(pages[high])
        weights[high] = weights[high] + weights[low] - 1.0
        if weights[high] < 1.0:
            large += 1
            queue[small] = high
            small += 1


@kernel
def _weigh(weights: NDArray[np.float64], skew: float) -> None:
    """Give rank k (from 1) the weight k^-skew, scaled so that the mean is one."""
    total = 0.0
    for i in range(len(weights)):
        weights[i] = _exponential(-skew * _logarithm(i + 1.0))
        total += weights[i]
    scale = len(weights) / total
    for i in range(len(weights)):
        weights[i] *= scale


@functools.lru_cache(maxsize=2)
def zipf_table(pages: int, skew: float, seed: int) -> NDArray[np.uint64]:
    """Make the alias table that pages are drawn from; the last two tables are kept.

    Args:
        pages: Pages of the working set.
        skew: Zipf exponent; 0 is uniform.
        seed: Seed of the permutation that scatters ranks over pages, from 0 to 2**64 - 1.

    Returns:
        uint64[2 * pages], shared, not to be changed: for each rank a threshold of 2**32 and (its
        page << 32 | its alias).
    """
    weights = np.empty(pages, np.float64)
    _weigh(weights, skew)
    order = np.arange(pages, dtype=np.int64)
    _permute(order, np.uint64(seed))
    table = np.empty(2 * pages, np.uint64)
    _alias(weights, order, np.empty(pages, np.int64), table)
    return table


class Zipf(VisitWorkload):
    """Visits random pages: the one of rank k with a likelihood in proportion to 1 / k^skew.

    Ranks are scattered over the working set by a seeded permutation.
    """

    order = TABLE

    def table(self, region: Region, pages: int) -> NDArray[np.uint64]:
        """Make the table for the working set; see `zipf_table`.

        Args:
            region: Its seed determines the permutation.
            pages: Pages of the working set.

        Returns:
            uint64[2 * pages].
        """
        return zipf_table(pages, float(self.options["skew"]), derive(region.seed, pages))
