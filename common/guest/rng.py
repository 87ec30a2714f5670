"""Counter-based randomness: a hash of seed and step, so a step's number determines what it does.

A generator without state costs the same as one with state, can be asked about later steps
(prefetch), and leaves nothing to migrate.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from pageferry.common.guest import seeds
from pageferry.common.guest.jit import inlined

GOLDEN: Final = np.uint64(seeds.GOLDEN)
_M1, _M2 = (np.uint64(each) for each in seeds.MULTIPLIERS)
_S1: Final = np.uint64(30)
_S2: Final = np.uint64(27)
_S3: Final = np.uint64(31)


@inlined
def mix(x: np.uint64) -> np.uint64:
    """Hash with splitmix64 (Steele, Lea, Flood 2014), a bijection of 64-bit words.

    Args:
        x: Seed plus counter, modulo 2**64.

    Returns:
        The hash.
    """
    z = x * GOLDEN + GOLDEN
    z = (z ^ (z >> _S1)) * _M1
    z = (z ^ (z >> _S2)) * _M2
    return z ^ (z >> _S3)
