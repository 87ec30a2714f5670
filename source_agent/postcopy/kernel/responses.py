"""What goes out on the urgent socket: frames of pages, and probes.

A chunk of pages goes as a frame of marks for those that are zero and a frame of the others, in one
system call where the socket takes them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.guest.native import monotonic_ns, signed
from pageferry.common.guest.syscalls import EINTR, MSG_NOSIGNAL, c_memmove, c_sendmsg, errno
from pageferry.common.units import PAGE_SIZE
from pageferry.common.urgent.control import BROKEN
from pageferry.common.urgent.kernels import (
    CHECKED,
    HEADER_WORDS,
    IDLE_NS,
    NUMBER,
    count_of,
    extent_word,
    first_of,
    first_word,
    put_bodyless,
    report_failure,
    seal,
)
from pageferry.common.wire import frames
from pageferry.source_agent.postcopy.kernel.state import MESSAGE, ServerArrays, kernel

_PAGES: Final = int(frames.FrameType.PAGES)
_ZERO: Final = int(frames.FrameType.ZERO)
_PROBE: Final = int(frames.FrameType.PROBE)
_ANSWER: Final = int(frames.FrameType.ANSWER)


@kernel
def _is_zero(words: NDArray[np.uint64], page: int) -> bool:
    """Check whether a page is all zero, in chunks of 128 bytes."""
    for start in range(page * 512, page * 512 + 512, 16):
        seen = np.uint64(0)
        for word in range(start, start + 16):
            seen |= words[word]
        if seen != np.uint64(0):
            return False
    return True


@kernel
def _build_frame(s: ServerArrays, n: int, kind: int, at: int) -> int:
    """Write a frame's head to `s.head[at:]`, of those pages of the chunk that are (not) zero.

    Zero pages are marked in the chunk as -1 - page. Returns the words of the head, 0: no such page.
    """
    entries = signed(0)
    pages = signed(0)
    last = signed(-2)
    for i in range(n):
        page = s.chunk[i]
        if (page < 0) != (kind == _ZERO):
            continue
        if page < 0:
            page = -1 - page
        if page == last + 1:
            s.head[at + 1 + entries] += extent_word(0, 1)
        else:
            s.head[at + HEADER_WORDS + entries] = extent_word(page, 1)
            entries += 1
        last = page
        pages += 1
    if entries == 0:
        return 0
    s.head[at] = first_word(kind, CHECKED if s.ctl.checked != 0 else 0, entries, 0)
    s.head[at + 1] = 8 * entries + (pages * PAGE_SIZE if kind == _PAGES else 0)
    return HEADER_WORDS + entries


@kernel
def _build_checked(s: ServerArrays, n: int) -> int:
    """Write both frames of the chunk's pages to `s.head`, side by side; return the words."""
    end = _build_frame(s, n, _ZERO, 0)
    if end > 0:
        end = seal(s.head, 0, end)
    first = end
    end += _build_frame(s, n, _PAGES, first)
    if end == first:
        return end
    for i in range(n):
        if s.chunk[i] >= 0:
            # SAFETY: HEAD_WORDS has room for CHUNK pages behind both heads, and a page of the chunk
            # is one of the guest, whose memory begins at `memory_at` and outlives the server.
            at = s.head.ctypes.data + 8 * end
            c_memmove(at, s.ctl.memory_at + s.chunk[i] * PAGE_SIZE, PAGE_SIZE)
            end += PAGE_SIZE // 8
    return seal(s.head, first, end)


@kernel
def send_chunk(s: ServerArrays, n: int) -> None:
    """Send the first pages of the chunk: a frame of zeros, a frame of pages.

    Args:
        s: `chunk[:n]` are pages of the guest, sorted; those that are zero are overwritten.
        n: How many, at most `CHUNK`.
    """
    for i in range(n):
        if _is_zero(s.words, s.chunk[i]):
            s.chunk[i] = -1 - s.chunk[i]
            s.ctl.zero_pages += 1
    s.ctl.pulled_pages += n
    if s.ctl.checked != 0:
        s.iov[0] = s.head.ctypes.data
        s.iov[1] = 8 * _build_checked(s, n)
        _send_all(s, 1)
        return
    zeros = _build_frame(s, n, _ZERO, 0)
    fulls = _build_frame(s, n, _PAGES, zeros)
    s.iov[0] = s.head.ctypes.data
    s.iov[1] = 8 * (zeros + fulls)
    count = signed(1)
    # SAFETY: these are pages of the guest: whatever was asked for has been checked.
    for i in range(zeros + HEADER_WORDS, zeros + fulls):
        s.iov[2 * count] = s.ctl.memory_at + first_of(s.head[i]) * PAGE_SIZE
        s.iov[2 * count + 1] = count_of(s.head[i]) * PAGE_SIZE
        count += 1
    _send_all(s, count)


@kernel
def _send_all(s: ServerArrays, count: int) -> None:
    """Send what the iov says, however long the peer takes to read it."""
    # SAFETY: a `struct msghdr` in the scratch array, whose iov lies in ours.
    at = signed(0)
    message = s.scratch.ctypes.data + 8 * MESSAGE
    total = signed(0)
    while at < count and s.ctl.failure == 0:
        for word in range(MESSAGE, MESSAGE + 7):
            s.scratch[word] = 0
        s.scratch[MESSAGE + 2] = s.iov.ctypes.data + 16 * at
        s.scratch[MESSAGE + 3] = count - at
        n = c_sendmsg(s.ctl.socket, message, MSG_NOSIGNAL)
        if n < 0:
            number = errno()
            if number != EINTR:
                report_failure(s.ctl, s.scratch, BROKEN, number)
            continue
        total += n
        while at < count and n >= s.iov[2 * at + 1]:
            n -= s.iov[2 * at + 1]
            at += 1
        if n > 0:
            s.iov[2 * at] += n
            s.iov[2 * at + 1] -= n
    s.ctl.sent_bytes += total
    now = monotonic_ns(s.scratch)
    s.ctl.sent_ns = now
    if s.ctl.rate_Bps > 0:
        s.ctl.due_ns = max(s.ctl.due_ns, now) + total * 1_000_000_000 // s.ctl.rate_Bps


@kernel
def send_probe(s: ServerArrays, kind: int, number: int) -> None:
    """Send a probe, or the answer to one.

    Args:
        s: Of the connection.
        kind: The type of frame.
        number: The probe's.
    """
    s.iov[0] = s.head.ctypes.data
    s.iov[1] = 8 * put_bodyless(s.head, 0, kind, s.ctl.checked, number, s.ctl.attempt)
    _send_all(s, 1)


@kernel
def keep_open(s: ServerArrays) -> int:
    """Send a probe if nothing was sent for a while.

    Args:
        s: Of the connection.

    Returns:
        ns until one may be due again.
    """
    left = s.ctl.sent_ns + IDLE_NS - monotonic_ns(s.scratch)
    if left > 0:
        return signed(left)
    s.ctl.asked += 1
    send_probe(s, _PROBE, s.ctl.asked & NUMBER)
    return signed(IDLE_NS)
