"""Figures of workloads that their kernels and their models (`pageferry.sim`) both need."""

from __future__ import annotations

import math
from typing import Final

from pageferry.common.units import PAGE_SIZE
from pageferry.common.workload.region import Region

TICK_NS: Final = 1_000_000  # idle
EXTENT_PAGES: Final = 32  # io-intensive: what a file system allocates in one go: 128 KiB
METADATA_SHARE: Final = 64  # io-intensive: a page of so many holds inodes, bitmaps, the journal
FRAMES_PER_S: Final = 25  # web-browsing: of the animation
MATRICES: Final = 3  # matrix-multiply: A, B and C
_NUMBERS_PER_PAGE: Final = PAGE_SIZE // 8


def third(region: Region) -> int:
    """matrix-multiply: pages from one matrix to the next."""
    return region.pages // MATRICES


def square(region: Region) -> int:
    """matrix-multiply: rows, and columns, of each matrix."""
    return math.isqrt(third(region) * _NUMBERS_PER_PAGE) // 8 * 8
