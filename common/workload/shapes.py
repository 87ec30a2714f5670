"""Figures of workloads that both their kernels and their models (`pageferry.sim`) need."""

from __future__ import annotations

import math
from typing import Final

from pageferry.common.units import PAGE_SIZE
from pageferry.common.workload.region import Region

TICK_NS: Final = 1_000_000  # idle
EXTENT_PAGES: Final = 32  # io-intensive: what a file system allocates at once: 128 KiB
METADATA_SHARE: Final = 64  # io-intensive: one page in so many holds inodes, bitmaps, the journal
FRAMES_PER_S: Final = 25  # web-browsing: of the animation
MATRICES: Final = 3  # matrix-multiply: A, B and C
_NUMBERS_PER_PAGE: Final = PAGE_SIZE // 8


def third(region: Region) -> int:
    """Return how many pages matrix-multiply has from one matrix to the next.

    Args:
        region: The vCPU's part of the guest, which holds the three matrices.

    Returns:
        Pages; a third of the region, rounded down.
    """
    return region.pages // MATRICES


def square(region: Region) -> int:
    """Return how many rows, and columns, each matrix of matrix-multiply has.

    Args:
        region: The vCPU's part of the guest, which holds the three matrices.

    Returns:
        A multiple of 8, so that each row is whole 64-byte lines.
    """
    return math.isqrt(third(region) * _NUMBERS_PER_PAGE) // 8 * 8
