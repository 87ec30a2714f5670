"""Counter-based randomness: a hash of seed and step, so that a step count says what comes next.

A generator without state costs the same as one with, can be asked about later steps (prefetch),
and leaves nothing to migrate.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from common.guest.jit import inlined

GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_M1: Final = np.uint64(0xBF58476D1CE4E5B9)
_M2: Final = np.uint64(0x94D049BB133111EB)
_S1: Final = np.uint64(30)
_S2: Final = np.uint64(27)
_S3: Final = np.uint64(31)


@inlined
def mix(x: np.uint64) -> np.uint64:
    """splitmix64 (Steele, Lea, Flood 2014): a bijection of 64-bit words."""
    z = x * GOLDEN + GOLDEN
    z = (z ^ (z >> _S1)) * _M1
    z = (z ^ (z >> _S2)) * _M2
    return z ^ (z >> _S3)


def derive(seed: int, *parts: int) -> int:
    """A seed of its own for each purpose, from 0 to 2**64 - 1."""
    mask = 2**64 - 1
    value = seed & mask
    for part in parts:
        value = (value ^ (part & mask)) * int(GOLDEN) + int(GOLDEN) & mask
        value = (value ^ (value >> 30)) * int(_M1) & mask
        value = (value ^ (value >> 27)) * int(_M2) & mask
        value ^= value >> 31
    return value
