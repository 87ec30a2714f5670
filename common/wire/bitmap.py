"""Sets of pages as they travel: a bit a page, least significant bit first."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.errors import RemoteProtocolError
from pageferry.common.wire.packing import MAX_UNPACKED, Codec, Unpacker, packer

WORTH: Final = 4096  # bytes: less fits into a connection's first window, with all that goes with it
MOST_SUMMARY: Final = 1024  # bytes: it goes in a message under the limits for strangers
_MOST_OTHERS: Final = 8  # one in so many pages of a stretch may be outside the set


def pack(pages: NDArray[np.bool_]) -> bytes:
    """Pack a set of pages.

    Args:
        pages: bool[n_pages].

    Returns:
        ceil(n_pages / 8) bytes.
    """
    return np.packbits(pages, bitorder="little").tobytes()


def count_pages(data: bytes) -> int:
    """Return how many pages are in a set.

    Args:
        data: As `pack` makes it.

    Returns:
        The number of bits that are set.
    """
    return int.from_bytes(data, "little").bit_count()


def unpack(data: bytes, n_pages: int) -> NDArray[np.bool_]:
    """Unpack a set of pages.

    Args:
        data: As `pack` makes it, perhaps by a peer.
        n_pages: Pages of the guest.

    Returns:
        bool[n_pages].

    Raises:
        RemoteProtocolError: If it is not a set of a guest of this size.
    """
    if len(data) != (n_pages + 7) // 8:
        raise RemoteProtocolError(
            f"a set of pages of {len(data)} bytes does not fit a guest of {n_pages} pages"
        )
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    if bits[n_pages:].any():
        raise RemoteProtocolError("a set of pages with pages outside the guest")
    return bits[:n_pages].astype(np.bool_)


def shorten(data: bytes) -> bytes:
    """Compress what `pack` made, if that makes it shorter; for `lengthen`.

    A connection that has carried little takes another round trip each time that what it carries
    doubles, and here that is downtime: at the switchover of a guest that has sent nothing all bits
    are set.

    Args:
        data: As `pack` makes it.

    Returns:
        One zstd frame, or `data` itself.
    """
    if not WORTH <= len(data) <= MAX_UNPACKED:
        return data
    packed = packer(Codec.ZSTD)(memoryview(data))
    return packed if len(packed) < len(data) else data


def lengthen(data: bytes, n_pages: int) -> bytes:
    """Undo `shorten`, for `unpack`; never makes more than that takes.

    Args:
        data: As `shorten` makes it, perhaps by a peer.
        n_pages: Pages of the guest.

    Returns:
        The set, or `data` itself where it was not shortened.

    Raises:
        RemoteProtocolError: If it does not become a set of a guest of this size.
    """
    size = (n_pages + 7) // 8
    if len(data) >= size or not WORTH <= size <= MAX_UNPACKED:
        return data
    return Unpacker(Codec.ZSTD).unpack(memoryview(data), size).tobytes()


def load_codec() -> None:
    """Load what `shorten` and `lengthen` import, which would otherwise be part of the downtime."""
    lengthen(shorten(bytes(WORTH)), 8 * WORTH)


def _stretch(n_pages: int) -> int:
    """Return the number of pages that one bit of a summary stands for: a power of two."""
    return 1 << max(0, (-(-n_pages // (8 * MOST_SUMMARY)) - 1).bit_length())


def summary(pages: NDArray[np.bool_]) -> bytes:
    """Return a coarse form of a set: a bit a stretch, set where nearly all its pages are in it.

    Args:
        pages: bool[n_pages], at least one.

    Returns:
        At most `MOST_SUMMARY` bytes.
    """
    starts = np.arange(0, len(pages), _stretch(len(pages)))
    inside = np.add.reduceat(pages, starts, dtype=np.int64)
    sizes = np.diff(starts, append=len(pages))
    return pack((sizes - inside) * _MOST_OTHERS <= sizes)


def expand_summary(data: bytes, n_pages: int) -> NDArray[np.bool_]:
    """Return the pages of a summary's stretches.

    Args:
        data: As `summary` makes it, perhaps by a peer.
        n_pages: Pages of the guest.

    Returns:
        bool[n_pages].

    Raises:
        RemoteProtocolError: If it is not a summary of a guest of this size.
    """
    stretch = _stretch(n_pages)
    return np.repeat(unpack(data, -(-n_pages // stretch)), stretch)[:n_pages]
