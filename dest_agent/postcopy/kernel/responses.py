"""What comes on the urgent socket: frames of pages, taken apart as they come, and probes.

The legal is what `common.wire.decoder.FrameDecoder` takes on a connection of pages; here a page is
placed as soon as it is whole, however much of its frame is still on the way. With checksums it has
to wait for its frame's, so that frames are short then.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from pageferry.common.guest.checksum import xxh3_64
from pageferry.common.guest.native import signal, signed
from pageferry.common.guest.syscalls import EAGAIN, EINTR, MSG_DONTWAIT, c_memmove, c_recv, errno
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire import header
from pageferry.common.wire.frames import MAX_FRAME_PAGES, MAX_URGENT_PAGES, FrameType
from pageferry.common.wire.probes import MAX_NUMBER
from pageferry.dest_agent.postcopy.kernel.placement import place_run
from pageferry.dest_agent.postcopy.kernel.requests import fail, queue
from pageferry.dest_agent.postcopy.kernel.state import (
    ANSWERED,
    ARMED,
    ASKED,
    ATTEMPT,
    BROKEN,
    CHECKED,
    CORRUPT,
    ENDED,
    ENTRIES,
    EVENT_FD,
    EXTENT,
    EXTENT_LEFT,
    FILLED,
    FRAME_PAGES,
    ILLEGAL,
    INBOX_WORDS,
    IS_ZERO,
    MAX_EXTENTS,
    NEXT_PAGE,
    PARSED,
    PART,
    PULLED,
    RECEIVED_BYTES,
    SETTLED,
    SOCKET,
    UNPLACEABLE,
    UNREAD,
    FaultArrays,
    kernel,
)

_PAGES: Final = int(FrameType.PAGES)
_ZERO: Final = int(FrameType.ZERO)
_PROBE: Final = int(FrameType.PROBE)
_ANSWER: Final = int(FrameType.ANSWER)
_NUMBER: Final = MAX_NUMBER
_HEAD_PART: Final = 0
_TABLE_PART: Final = 1
_PAGES_PART: Final = 2
_WAIT: Final = -1
_FLAGS: Final = header.CHECKED << 8
_TRAILER: Final = 8
# Bytes parsed after which the rest is moved to the front: behind fewer of them there is always room
# for a checked frame.
_COMPACT: Final = 64 * 1024


@kernel
def _take_header(f: FaultArrays) -> bool:
    """False: it is not legal."""
    ctl = f.ctl
    head = np.uint64(f.inbox[ctl[PARSED] >> 3])
    length = f.inbox[(ctl[PARSED] >> 3) + 1]
    kind = signed(head & np.uint64(0xFFFF))  # with the flags
    most = MAX_FRAME_PAGES
    if ctl[CHECKED] != 0:
        kind ^= _FLAGS
        most = MAX_URGENT_PAGES
    entries = signed((head >> np.uint64(16)) & np.uint64(0xFFFF))
    pages = (length - 8 * entries) >> 12
    if kind not in (_PAGES, _ZERO) or not 0 < entries <= MAX_EXTENTS or ctl[ARMED] == 0:
        return False
    if not 0 <= pages <= (most if kind == _PAGES else 0):
        return False
    if ctl[CHECKED] != 0 and entries > MAX_URGENT_PAGES:
        return False
    if length != 8 * entries + pages * PAGE_SIZE:
        return False
    ctl[ENTRIES] = entries
    ctl[FRAME_PAGES] = pages
    ctl[IS_ZERO] = int(kind == _ZERO)
    return True


@kernel
def _accept(f: FaultArrays, available: int) -> int:
    """Go on behind a legal header, of a checked frame when all of it is there. 0, or why not."""
    ctl = f.ctl
    if ctl[CHECKED] != 0:
        size = 16 + 8 * ctl[ENTRIES] + PAGE_SIZE * ctl[FRAME_PAGES]
        if available < size + _TRAILER:
            return _WAIT
        at = f.inbox.ctypes.data + ctl[PARSED]
        if signed(xxh3_64(at, size)) != f.inbox[(ctl[PARSED] + size) >> 3]:
            return CORRUPT
    ctl[PARSED] += 16
    ctl[PART] = _TABLE_PART
    return 0


@kernel
def _begin_extent(f: FaultArrays, index: int) -> None:
    ctl = f.ctl
    if index == ctl[ENTRIES]:
        ctl[PART] = _HEAD_PART
        if ctl[CHECKED] != 0:
            ctl[PARSED] += _TRAILER
        return
    ctl[PART] = _PAGES_PART
    ctl[EXTENT] = index
    ctl[NEXT_PAGE] = f.table[index] & 0xFFFFFFFF
    ctl[EXTENT_LEFT] = (f.table[index] >> 32) & 0xFFFFFFFF


@kernel
def _take_table(f: FaultArrays) -> bool:
    """Check the whole table before any of it is used. False: it is not legal."""
    ctl = f.ctl
    total = signed(0)
    for i in range(ctl[ENTRIES]):
        extent = f.inbox[(ctl[PARSED] >> 3) + i]
        first, count = extent & 0xFFFFFFFF, (extent >> 32) & 0xFFFFFFFF
        if count == 0 or first + count > len(f.status):
            return False
        total += count
        f.table[i] = extent
    if total > len(f.status) or (ctl[IS_ZERO] == 0 and total != ctl[FRAME_PAGES]):
        return False
    ctl[PARSED] += 8 * ctl[ENTRIES]
    _begin_extent(f, 0)
    return True


@kernel
def _take_pages(f: FaultArrays, available: int) -> int:
    """Place the pages that are there, as many as are side by side. An error's number or 0."""
    ctl = f.ctl
    count = ctl[EXTENT_LEFT]
    source = signed(0)
    if ctl[IS_ZERO] == 0:
        count = min(count, available >> 12)
        source = f.inbox.ctypes.data + ctl[PARSED]
        ctl[PARSED] += count * PAGE_SIZE
    first = ctl[NEXT_PAGE]
    ctl[NEXT_PAGE] += count
    ctl[EXTENT_LEFT] -= count
    if ctl[EXTENT_LEFT] == 0:
        _begin_extent(f, ctl[EXTENT] + 1)
    if ctl[SETTLED] != 0:
        return 0
    return place_run(f, first, count, source, PULLED, f.scratch)


@kernel
def _answered(f: FaultArrays, number: int) -> bool:
    """An answer has come. False: none was due."""
    ctl = f.ctl
    if ctl[ANSWERED] == ctl[ASKED] or number != (ctl[ANSWERED] + 1) & _NUMBER:
        return False
    ctl[ANSWERED] += 1
    if ctl[ANSWERED] == 1:
        signal(f.scratch, ctl[EVENT_FD])
    return True


@kernel
def _take_probe(f: FaultArrays, available: int) -> int:
    """Answer a probe, or take the answer to ours. 0, or why not."""
    ctl = f.ctl
    checked = ctl[CHECKED] != 0
    size = 16 + _TRAILER if checked else 16
    if available < size:
        return _WAIT
    at = ctl[PARSED] >> 3
    if checked and signed(xxh3_64(f.inbox.ctypes.data + ctl[PARSED], 16)) != f.inbox[at + 2]:
        return CORRUPT
    head = np.uint64(f.inbox[at])
    kind = signed(head & np.uint64(0xFFFF)) ^ (_FLAGS if checked else 0)
    number = signed((head >> np.uint64(16)) & np.uint64(0xFFFF))
    if f.inbox[at + 1] != 0 or signed(head >> np.uint64(32)) != ctl[ATTEMPT]:
        return ILLEGAL
    ctl[PARSED] += size
    if kind == _PROBE:
        return 0 if queue(f, _ANSWER, number, ctl[ATTEMPT]) else UNREAD
    return 0 if kind == _ANSWER and _answered(f, number) else ILLEGAL


@kernel
def _take_head(f: FaultArrays, available: int) -> int:
    """What the next frame is, and a whole one if it has no body. 0, or why not."""
    if f.inbox[f.ctl[PARSED] >> 3] & 0xFF in (_PROBE, _ANSWER):
        return _take_probe(f, available)
    return _accept(f, available) if _take_header(f) else ILLEGAL


@kernel
def _parse_part(f: FaultArrays, available: int) -> tuple[int, int]:
    """The next part of a frame, if that much is there: (a code of FAILURE, its number).

    (0, 0): it is done with; (_WAIT, 0): not all of it is there.
    """
    ctl = f.ctl
    if ctl[PART] == _HEAD_PART:
        if available < 16:
            return _WAIT, 0
        return _take_head(f, available), 0
    if ctl[PART] == _TABLE_PART:
        if available < 8 * ctl[ENTRIES]:
            return _WAIT, 0
        return 0 if _take_table(f) else ILLEGAL, 0
    if ctl[IS_ZERO] == 0 and available < PAGE_SIZE:
        return _WAIT, 0
    failure = _take_pages(f, available)
    return UNPLACEABLE if failure != 0 else 0, failure


@kernel
def _parse(f: FaultArrays) -> None:
    """Whatever has come as far as it has: a page is placed when it is whole, not its frame."""
    code, number = 0, 0
    while code == 0:
        code, number = _parse_part(f, f.ctl[FILLED] - f.ctl[PARSED])
    if code != _WAIT:
        fail(f, code, number)


@kernel
def receive(f: FaultArrays) -> None:
    """Take what the socket has, once: faults come before more of it."""
    ctl = f.ctl
    box = f.inbox.ctypes.data
    n = c_recv(ctl[SOCKET], box + ctl[FILLED], 8 * INBOX_WORDS - ctl[FILLED], MSG_DONTWAIT)
    if n <= 0:
        number = errno()
        if n == 0:
            fail(f, ENDED, 0)
        elif number not in (EAGAIN, EINTR):
            fail(f, BROKEN, number)
        return
    ctl[FILLED] += n
    ctl[RECEIVED_BYTES] += n
    _parse(f)
    if ctl[PARSED] == ctl[FILLED]:
        ctl[PARSED] = ctl[FILLED] = 0
    elif ctl[PARSED] >= _COMPACT:
        c_memmove(box, box + ctl[PARSED], ctl[FILLED] - ctl[PARSED])
        ctl[FILLED] -= ctl[PARSED]
        ctl[PARSED] = 0
