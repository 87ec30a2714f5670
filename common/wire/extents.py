"""Page numbers as extents: runs of adjacent pages.

An extent array has dtype `EXTENT`: `first` and `count`, little-endian unsigned 32 bits, which is
how it travels. 32 bits of page number are 16 TiB of guest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.errors import RemoteProtocolError

EXTENT: Final = np.dtype([("first", "<u4"), ("count", "<u4")])

Extents = NDArray[np.void]
Pages = NDArray[np.int64]


def from_pages(pages: Pages) -> Extents:
    """Return page numbers as extents.

    Args:
        pages: int64[n], sorted, distinct.

    Returns:
        EXTENT[m], m <= n.
    """
    if len(pages) == 0:
        return np.empty(0, EXTENT)
    breaks = np.flatnonzero(np.diff(pages) != 1) + 1
    starts = np.concatenate(([0], breaks))
    ends = np.concatenate((breaks, [len(pages)]))
    out = np.empty(len(starts), EXTENT)
    out["first"] = pages[starts]
    out["count"] = ends - starts
    return out


def count_within(extents: Extents, n_pages: int) -> int:
    """Return the number of pages of extents from the wire, which have to be the guest's.

    Args:
        extents: EXTENT[m], at least one.
        n_pages: Pages of the guest.

    Returns:
        The pages of all extents together.

    Raises:
        RemoteProtocolError: If one is empty or ends beyond the guest, or if together they have more
            pages than the guest.
    """
    counts = extents["count"].astype(np.int64)
    ends = extents["first"].astype(np.int64) + counts
    if not counts.all() or int(ends.max()) > n_pages:
        raise RemoteProtocolError(
            f"an extent that ends at page {int(ends.max())} of a guest of {n_pages} pages"
        )
    total = int(counts.sum())
    if total > n_pages:  # each is within the guest, but pages would be written many times over
        raise RemoteProtocolError(f"extents of {total} pages of a guest of {n_pages} pages")
    return total


def to_pages(extents: Extents) -> Pages:
    """Return the page numbers of extents.

    Args:
        extents: EXTENT[m].

    Returns:
        int64[n], in the order of the extents.
    """
    counts = extents["count"].astype(np.int64)
    total = int(counts.sum())
    if total == 0:
        return np.empty(0, np.int64)
    offsets = np.repeat(extents["first"].astype(np.int64) - (np.cumsum(counts) - counts), counts)
    return np.asarray(offsets + np.arange(total), np.int64)


def cut_pages(pages: Pages, most: int) -> Iterator[tuple[Pages, Extents]]:
    """Cut sorted page numbers into pieces of at most `most` extents.

    Args:
        pages: int64[n], sorted, distinct.
        most: Extents of a piece, 1 or more.

    Yields:
        Each piece, int64[k], with its extents, EXTENT[m], m <= most.
    """
    extents = from_pages(pages)
    first = 0
    for start in range(0, len(extents), most):
        cut = extents[start : start + most]
        end = first + int(cut["count"].sum(dtype=np.int64))
        yield pages[first:end], cut
        first = end
