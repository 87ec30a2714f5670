"""What comes on the urgent socket: probes, and frames of pages, taken apart as they come.

What `common.wire.decoder.FrameDecoder` takes on a connection of pages is legal here, too; but a
page is placed as soon as it is whole, however much of its frame is still on the way. With checksums
it has to wait for the whole frame, so frames are short then.
"""

from __future__ import annotations

from typing import Final

from pageferry.common.guest.native import signed
from pageferry.common.guest.syscalls import c_memmove
from pageferry.common.units import PAGE_SIZE
from pageferry.common.urgent.control import BROKEN, CORRUPT, ENDED, ILLEGAL
from pageferry.common.urgent.kernels import (
    CHECKED,
    HEADER_WORDS,
    TRAILER_WORDS,
    count_of,
    entries_of,
    first_of,
    flags_of,
    is_sealed,
    kind_of,
    receive_once,
    take_answer,
    value_of,
)
from pageferry.common.wire.frames import MAX_FRAME_PAGES, MAX_URGENT_PAGES, FrameType
from pageferry.dest_agent.postcopy.kernel.placement import place_run
from pageferry.dest_agent.postcopy.kernel.requests import fail, queue
from pageferry.dest_agent.postcopy.kernel.state import (
    MAX_EXTENTS,
    PULLED,
    UNPLACEABLE,
    UNREAD,
    FaultArrays,
    kernel,
)

_PAGES: Final = int(FrameType.PAGES)
_ZERO: Final = int(FrameType.ZERO)
_PROBE: Final = int(FrameType.PROBE)
_ANSWER: Final = int(FrameType.ANSWER)
_HEAD_PART: Final = 0
_TABLE_PART: Final = 1
_PAGES_PART: Final = 2
_WAIT: Final = -1
_HEADER: Final = 8 * HEADER_WORDS
_TRAILER: Final = 8 * TRAILER_WORDS
# After so many parsed bytes the rest is moved to the front: behind fewer there is always room for a
# checked frame.
_COMPACT: Final = 64 * 1024


@kernel
def _take_header(f: FaultArrays) -> bool:
    """Take a frame's header; return False if it is not legal."""
    ctl = f.ctl
    head = f.inbox[ctl.parsed >> 3]
    length = f.inbox[(ctl.parsed >> 3) + 1]
    kind, entries = kind_of(head), entries_of(head)
    most = MAX_URGENT_PAGES if ctl.checked != 0 else MAX_FRAME_PAGES
    pages = (length - 8 * entries) >> 12
    if flags_of(head) != (CHECKED if ctl.checked != 0 else 0):
        return False
    if kind not in (_PAGES, _ZERO) or not 0 < entries <= MAX_EXTENTS or ctl.armed == 0:
        return False
    if not 0 <= pages <= (most if kind == _PAGES else 0):
        return False
    if ctl.checked != 0 and entries > MAX_URGENT_PAGES:
        return False
    if length != 8 * entries + pages * PAGE_SIZE:
        return False
    ctl.entries = entries
    ctl.frame_pages = pages
    ctl.is_zero = int(kind == _ZERO)
    return True


@kernel
def _accept(f: FaultArrays, available: int) -> int:
    """Go on behind a legal header, with checksums once the frame is whole; return 0 or why not."""
    ctl = f.ctl
    if ctl.checked != 0:
        size = _HEADER + 8 * ctl.entries + PAGE_SIZE * ctl.frame_pages
        if available < size + _TRAILER:
            return _WAIT
        if not is_sealed(f.inbox, ctl.parsed >> 3, (ctl.parsed + size) >> 3):
            return CORRUPT
    ctl.parsed += _HEADER
    ctl.part = _TABLE_PART
    return 0


@kernel
def _begin_extent(f: FaultArrays, index: int) -> None:
    ctl = f.ctl
    if index == ctl.entries:
        ctl.part = _HEAD_PART
        if ctl.checked != 0:
            ctl.parsed += _TRAILER
        return
    ctl.part = _PAGES_PART
    ctl.extent = index
    ctl.next_page = first_of(f.table[index])
    ctl.extent_left = count_of(f.table[index])


@kernel
def _take_table(f: FaultArrays) -> bool:
    """Check the whole table before any of it is used; return False if it is not legal."""
    ctl = f.ctl
    total = signed(0)
    for i in range(ctl.entries):
        extent = f.inbox[(ctl.parsed >> 3) + i]
        first, count = first_of(extent), count_of(extent)
        if count == 0 or first + count > len(f.status):
            return False
        total += count
        f.table[i] = extent
    if total > len(f.status) or (ctl.is_zero == 0 and total != ctl.frame_pages):
        return False
    ctl.parsed += 8 * ctl.entries
    _begin_extent(f, 0)
    return True


@kernel
def _take_pages(f: FaultArrays, available: int) -> int:
    """Place the pages that are there and lie side by side; return an error's number or 0."""
    ctl = f.ctl
    count = ctl.extent_left
    source = signed(0)
    if ctl.is_zero == 0:
        count = min(count, available >> 12)
        # SAFETY: `count` pages have come behind `parsed`, and stay in the inbox until placed.
        source = f.inbox.ctypes.data + ctl.parsed
        ctl.parsed += count * PAGE_SIZE
    first = ctl.next_page
    ctl.next_page += count
    ctl.extent_left -= count
    if ctl.extent_left == 0:
        _begin_extent(f, ctl.extent + 1)
    if ctl.settled != 0:
        return 0
    return place_run(f.target, first, count, source, PULLED, f.scratch)


@kernel
def _take_probe(f: FaultArrays, available: int) -> int:
    """Answer a probe, or take the answer to ours; return 0 or why not."""
    ctl = f.ctl
    checked = ctl.checked != 0
    size = _HEADER + _TRAILER if checked else _HEADER
    if available < size:
        return _WAIT
    at = ctl.parsed >> 3
    if checked and not is_sealed(f.inbox, at, at + HEADER_WORDS):
        return CORRUPT
    head = f.inbox[at]
    kind, number = kind_of(head), entries_of(head)
    if flags_of(head) != (CHECKED if checked else 0):
        return ILLEGAL
    if f.inbox[at + 1] != 0 or value_of(head) != ctl.attempt:
        return ILLEGAL
    ctl.parsed += size
    if kind == _PROBE:
        return 0 if queue(f, _ANSWER, number, ctl.attempt) else UNREAD
    return 0 if kind == _ANSWER and take_answer(ctl, f.scratch, number) else ILLEGAL


@kernel
def _take_head(f: FaultArrays, available: int) -> int:
    """Take the head of the next frame, or all of one without a body; return 0 or why not."""
    if kind_of(f.inbox[f.ctl.parsed >> 3]) in (_PROBE, _ANSWER):
        return _take_probe(f, available)
    return _accept(f, available) if _take_header(f) else ILLEGAL


@kernel
def _parse_part(f: FaultArrays, available: int) -> tuple[int, int]:
    """Take the next part of a frame, if that much is there; return (code of FAILURE, its number).

    (0, 0) says that it is done, (_WAIT, 0) that not all of it is there.
    """
    ctl = f.ctl
    if ctl.part == _HEAD_PART:
        if available < _HEADER:
            return _WAIT, 0
        return _take_head(f, available), 0
    if ctl.part == _TABLE_PART:
        if available < 8 * ctl.entries:
            return _WAIT, 0
        return 0 if _take_table(f) else ILLEGAL, 0
    if ctl.is_zero == 0 and available < PAGE_SIZE:
        return _WAIT, 0
    failure = _take_pages(f, available)
    return UNPLACEABLE if failure != 0 else 0, failure


@kernel
def _parse(f: FaultArrays) -> None:
    """Parse as far as bytes have come: a page is placed when it is whole, not when its frame is."""
    code, number = 0, 0
    while code == 0:
        code, number = _parse_part(f, f.ctl.filled - f.ctl.parsed)
    if code != _WAIT:
        fail(f, code, number)


@kernel
def receive(f: FaultArrays) -> None:
    """Take what the socket has, once: faults come before more of it.

    Args:
        f: Has a connection, and loses it if that ends or carries something illegal.
    """
    ctl = f.ctl
    n, number = receive_once(ctl, f.inbox)
    if n <= 0:
        if n == 0:
            fail(f, ENDED, 0)
        elif number != 0:
            fail(f, BROKEN, number)
        return
    _parse(f)
    if ctl.parsed == ctl.filled:
        ctl.parsed = ctl.filled = 0
    elif ctl.parsed >= _COMPACT:
        # SAFETY: both ends lie in the inbox, which may overlap itself.
        box = f.inbox.ctypes.data
        c_memmove(box, box + ctl.parsed, ctl.filled - ctl.parsed)
        ctl.filled -= ctl.parsed
        ctl.parsed = 0
