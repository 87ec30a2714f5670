"""What the pusher takes next, compiled: the pages that nobody has sent."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pageferry.common.guest.atomics import peek_word, turn_byte
from pageferry.common.guest.native import signed
from pageferry.source_agent.postcopy.kernel.state import PUSHED, UNSENT, kernel


@kernel
def next_unsent(sent: NDArray[np.uint8], start: int, max_pages: int, out: NDArray[np.int64]) -> int:
    """Take the next unsent pages from `start` on, and mark them as pushed.

    They are sorted: the search begins again at 0 only if there was none up to the end of memory.

    Args:
        sent: uint8[n_pages], shared with the server.
        start: The first page to look at.
        max_pages: The most that are taken.
        out: int64[max_pages] or more, overwritten by the pages.

    Returns:
        How many there are; 0: all pages have been sent.
    """
    # SAFETY: `sent` has a byte a page; words are read only where eight bytes are left.
    n = signed(0)
    address = sent.ctypes.data
    for turn in range(2):
        page = signed(start if turn == 0 else 0)
        end = len(sent) if turn == 0 else signed(start)
        while page < end and n < max_pages:
            if (
                (address + page) & 7 == 0
                and page + 8 <= end
                and _none_unsent(peek_word(address + page))
            ):
                page += 8
                continue
            if turn_byte(address, page, UNSENT, PUSHED) != 0:
                out[n] = page
                n += 1
            page += 1
        if n > 0:
            break
    return n


@kernel
def _none_unsent(eight: int) -> bool:
    """Return whether none of eight bytes, each 0, 1 or 2, is 0."""
    x = np.uint64(eight)
    return bool(
        (x | (x >> np.uint64(1))) & np.uint64(0x0101010101010101) == np.uint64(0x0101010101010101)
    )
