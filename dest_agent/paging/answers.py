"""Answers on the urgent socket: frames of pages, taken apart as they come.

The legal is what `common.wire.frames.FrameDecoder` takes on a connection of pages; here a page is
placed as soon as it is whole, however much of its frame is still on the way.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from common.guest.native import fence, signal, signed
from common.guest.syscalls import EAGAIN, EINTR, MSG_DONTWAIT, c_memmove, c_recv, errno
from common.units import PAGE_SIZE
from common.wire.frames import MAX_FRAME_PAGES, FrameType
from dest_agent.paging.arrays import (
    BROKEN,
    ENDED,
    ENTRIES,
    EVENT_FD,
    EXTENT,
    EXTENT_LEFT,
    FAILURE,
    FAILURE_ERRNO,
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
    SOCKET,
    UNPLACEABLE,
    FaultArrays,
    kernel,
)
from dest_agent.paging.placing import place_run

_PAGES: Final = int(FrameType.PAGES)
_ZERO: Final = int(FrameType.ZERO)
_HEAD_PART: Final = 0
_TABLE_PART: Final = 1
_PAGES_PART: Final = 2
_COMPACT: Final = 128 * 1024  # bytes parsed after which the rest is moved to the front


@kernel
def fail(f: FaultArrays, code: int, number: int) -> None:
    """Drop the connection and tell Python. code: see `arrays`; number: the system's, or 0."""
    f.ctl[FAILURE_ERRNO] = number
    f.ctl[SOCKET] = -1
    fence()
    f.ctl[FAILURE] = code
    signal(f.scratch, f.ctl[EVENT_FD])


@kernel
def _take_header(f: FaultArrays) -> bool:
    """False: it is not legal."""
    ctl = f.ctl
    head = np.uint64(f.inbox[ctl[PARSED] >> 3])
    length = f.inbox[(ctl[PARSED] >> 3) + 1]
    kind = signed(head & np.uint64(0xFFFF))  # with the flags, of which there are none
    entries = signed((head >> np.uint64(16)) & np.uint64(0xFFFF))
    pages = (length - 8 * entries) >> 12
    if kind not in (_PAGES, _ZERO) or not 0 < entries <= MAX_EXTENTS:
        return False
    if not 0 <= pages <= (MAX_FRAME_PAGES if kind == _PAGES else 0):
        return False
    if length != 8 * entries + pages * PAGE_SIZE:
        return False
    ctl[PARSED] += 16
    ctl[ENTRIES] = entries
    ctl[FRAME_PAGES] = pages
    ctl[IS_ZERO] = int(kind == _ZERO)
    ctl[PART] = _TABLE_PART
    return True


@kernel
def _begin_extent(f: FaultArrays, index: int) -> None:
    ctl = f.ctl
    if index == ctl[ENTRIES]:
        ctl[PART] = _HEAD_PART
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
    if ctl[IS_ZERO] == 0 and total != ctl[FRAME_PAGES]:
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
    return place_run(f, first, count, source, PULLED, f.scratch)


@kernel
def _parse(f: FaultArrays) -> None:
    """Whatever has come as far as it has: a page is placed when it is whole, not its frame."""
    ctl = f.ctl
    while True:
        available = ctl[FILLED] - ctl[PARSED]
        legal = True
        failure = 0
        if ctl[PART] == _HEAD_PART:
            if available < 16:
                return
            legal = _take_header(f)
        elif ctl[PART] == _TABLE_PART:
            if available < 8 * ctl[ENTRIES]:
                return
            legal = _take_table(f)
        else:
            if ctl[IS_ZERO] == 0 and available < PAGE_SIZE:
                return
            failure = _take_pages(f, available)
        if not legal:
            fail(f, ILLEGAL, 0)
            return
        if failure != 0:
            fail(f, UNPLACEABLE, failure)
            return


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
