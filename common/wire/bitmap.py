"""Sets of pages as they travel: a bit a page, least significant bit first."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.errors import RemoteProtocolError
from pageferry.common.wire.packing import MAX_UNPACKED, Codec, Unpacker, packer

WORTH: Final = 4096  # bytes: less fits into a connection's first window, with all that is beside it
MOST_SUMMARY: Final = 1024  # bytes: it goes in a message that strangers' limits still hold for
_MOST_OTHERS: Final = 8  # one in so many pages of a stretch may be outside the set


def pack(pages: NDArray[np.bool_]) -> bytes:
    """bool[n_pages] to ceil(n_pages / 8) bytes."""
    return np.packbits(pages, bitorder="little").tobytes()


def popcount(data: bytes) -> int:
    """How many pages are in the set."""
    return int.from_bytes(data, "little").bit_count()


def unpack(data: bytes, n_pages: int) -> NDArray[np.bool_]:
    """And back. Raises `RemoteProtocolError` for a set that is not of a guest of this size."""
    if len(data) != (n_pages + 7) // 8:
        raise RemoteProtocolError(
            f"a set of pages of {len(data)} bytes does not fit a guest of {n_pages} pages"
        )
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    if bits[n_pages:].any():
        raise RemoteProtocolError("a set of pages with pages outside the guest")
    return bits[:n_pages].astype(np.bool_)


def shorten(data: bytes) -> bytes:
    """What `pack` gave, or less, for `lengthen`.

    A connection that has carried little takes a round trip more each time that what it carries
    doubles, of the downtime here: at the switch of a guest that has sent nothing all bits are set.
    """
    if not WORTH <= len(data) <= MAX_UNPACKED:
        return data
    packed = packer(Codec.ZSTD)(memoryview(data))
    return packed if len(packed) < len(data) else data


def lengthen(data: bytes, n_pages: int) -> bytes:
    """For `unpack`; never more than that takes. Raises `RemoteProtocolError`."""
    size = (n_pages + 7) // 8
    if len(data) >= size or not WORTH <= size <= MAX_UNPACKED:
        return data
    return Unpacker(Codec.ZSTD).unpack(memoryview(data), size).tobytes()


def load() -> None:
    """Have both of these ready: what they import would be a part of the downtime."""
    lengthen(shorten(bytes(WORTH)), 8 * WORTH)


def _stretch(n_pages: int) -> int:
    """Pages that one bit of a summary stands for: a power of two."""
    return 1 << max(0, (-(-n_pages // (8 * MOST_SUMMARY)) - 1).bit_length())


def summary(pages: NDArray[np.bool_]) -> bytes:
    """At most `MOST_SUMMARY` bytes, a bit a stretch: those that are nearly whole in the set."""
    starts = np.arange(0, len(pages), _stretch(len(pages)))
    inside = np.add.reduceat(pages, starts, dtype=np.int64)
    sizes = np.diff(starts, append=len(pages))
    return pack((sizes - inside) * _MOST_OTHERS <= sizes)


def expand(data: bytes, n_pages: int) -> NDArray[np.bool_]:
    """The pages of a summary's stretches, bool[n_pages]. Raises as `unpack`."""
    stretch = _stretch(n_pages)
    return np.repeat(unpack(data, -(-n_pages // stretch)), stretch)[:n_pages]
