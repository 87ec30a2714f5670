"""Prefetch: how many neighbours to ask for with a page that somebody waits for."""

from __future__ import annotations

from typing import Final

from pageferry.common.guest.native import peek_byte, signed
from pageferry.dest_agent.postcopy.kernel.state import (
    PRESENT,
    STREAM_WORDS,
    STREAMS,
    FaultArrays,
    kernel,
)

_FIRST_WINDOW: Final = 4
_MAX_WINDOW: Final = 256
_NEAR: Final = 256  # pages looked through for one that is still missing


@kernel
def region_of(f: FaultArrays, page: int) -> int:
    """Return the vCPU whose page it is.

    Args:
        f: Only `regions` is read.
        page: Its number, within the guest.

    Returns:
        The vCPU's number.
    """
    vcpu = signed(0)
    while page >= f.regions[vcpu + 1]:
        vcpu += 1
    return vcpu


@kernel
def _follows(f: FaultArrays, at: int, page: int) -> bool:
    """Return whether a stream would fault next at `page`: nothing in between is missing."""
    last, end = f.streams[at], f.streams[at + 1]
    if last < 0 or page <= last or page >= end + _NEAR:
        return False
    for other in range(end, page):  # noqa: SIM110 (compiled code has no generators)
        if peek_byte(f.status.ctypes.data, other) != PRESENT:
            return False
    return True


@kernel
def window(f: FaultArrays, page: int) -> int:
    """Compute how many pages behind `page` to ask for.

    Adaptive: a fault that continues a stream doubles its window, and asks that far ahead of what
    has been asked for; any other fault begins a stream, without a window.

    Args:
        f: The streams of the page's vCPU are updated.
        page: Its number; a thread waits for it.

    Returns:
        Pages, which do not reach beyond the vCPU's region.
    """
    vcpu = region_of(f, page)
    room = f.regions[vcpu + 1] - page - 1
    if f.ctl.prepage >= 0:
        return signed(min(f.ctl.prepage, room))
    first = vcpu * STREAMS * STREAM_WORDS
    for at in range(first, first + STREAMS * STREAM_WORDS, STREAM_WORDS):
        if _follows(f, at, page):
            window = min(max(2 * f.streams[at + 2], _FIRST_WINDOW), _MAX_WINDOW)
            ahead = max(f.streams[at + 1] - page - 1, 0)
            asked = signed(min(ahead + window, _MAX_WINDOW, room))
            f.streams[at] = page
            f.streams[at + 1] = max(f.streams[at + 1], page + 1 + asked)
            f.streams[at + 2] = window
            return asked
    at = first + f.oldest[vcpu] * STREAM_WORDS
    f.oldest[vcpu] = (f.oldest[vcpu] + 1) % STREAMS
    f.streams[at] = page
    f.streams[at + 1] = page + 1
    f.streams[at + 2] = 0
    return 0
