"""The page server's thread, compiled: requests in, pages of the paused guest out.

A demanded page is sent at once, alone. Its neighbours follow in small frames, and between two of
those the server looks for new requests: a demanded page waits for one of them at most. Each page
travels once: whoever turns its `sent` byte sends it. Only a demanded page that was pushed is sent
again, because its copy may stand in a long queue.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pageferry.common.guest.atomics import peek_word, swap_byte, turn_byte
from pageferry.common.guest.native import fence, monotonic_ns, signed
from pageferry.common.guest.syscalls import (
    EINTR,
    MSG_NOSIGNAL,
    POLLIN,
    POLLOUT,
    c_memmove,
    c_ppoll,
    c_read,
    c_sendmsg,
    errno,
    pollfd,
)
from pageferry.common.units import PAGE_SIZE
from pageferry.common.urgent.control import BROKEN, CORRUPT, ENDED, ILLEGAL, control_dtype
from pageferry.common.urgent.kernels import (
    CHECKED,
    HEADER_WORDS,
    IDLE_NS,
    NUMBER,
    TRAILER_WORDS,
    count_of,
    entries_of,
    extent_word,
    first_of,
    first_word,
    flags_of,
    is_sealed,
    kind_of,
    put_bodyless,
    receive_once,
    report_failure,
    seal,
    take_answer,
    urgent_kernels,
    value_of,
)
from pageferry.common.wire import frames

kernel = urgent_kernels(Path(__file__).parent)


# -- control words: a class a writer ---------------------------------------------------------------


class _ByPython:
    stop: int
    socket: int
    wake_fd: int
    event_fd: int  # the connection has ended, or its first probe was answered
    memory_at: int  # address of guest memory
    rate_Bps: int  # of neighbours; 0: no limit
    checked: int  # 1: frames have checksums
    attempt: int  # of the connection
    open: int  # 1: requests are answered; 0: the first one waits, and all behind it


class _ByServer:
    """Begin at 0 with each connection, except for `due_ns`."""

    failure: int  # why it dropped the connection, a code
    failure_errno: int
    filled: int  # bytes in the inbox
    first_window: int  # windows [first_window, last_window) of the ring are to be sent
    last_window: int
    held: int  # 1: a request waits in the inbox
    sent_ns: int  # when something was sent last
    asked: int  # probes that were sent on this connection
    answered: int  # how many of those have been answered
    serving: int  # 1: the thread is in here, and no longer needs the interpreter lock
    due_ns: int  # when neighbours may be sent again


class _Counters:
    """Counts of all connections."""

    focus: int  # the last demanded page, -1: none yet
    demands: int
    crossed: int  # demands of pages that had been pushed already
    pulled_pages: int  # sent from here, neighbours and zero pages included
    zero_pages: int  # of these
    sent_bytes: int
    received_bytes: int


class ServerControl(_ByPython, _ByServer, _Counters):
    """The server's control words, as mypy sees the record."""


SERVER_CONTROL: Final = control_dtype(_ByPython, _ByServer, _Counters)

# -- `sent` bytes ----------------------------------------------------------------------------------
UNSENT: Final = 0
PUSHED: Final = 1
PULLED: Final = 2

# Neighbours in a frame: a demanded page may have to wait for that many.
CHUNK: Final = frames.MAX_URGENT_PAGES
# Neighbours sent right behind a demanded page: a sequential reader touches the next page before a
# paced frame could come, and that demand would hold the frame up again. Only while we are no more
# than this ahead of the rate: many readers together would exceed it.
AT_ONCE: Final = 8
DEBT_NS: Final = 1_000_000
# How far ahead of the rate demanded pages may get. A guest that asks for more waits, as it would on
# a link of that rate.
MOST_DEBT_NS: Final = 5_000_000
WINDOWS: Final = 256  # a ring: when it is full the oldest wish is forgotten
INBOX_WORDS: Final = 512
_FRAME_WORDS: Final = HEADER_WORDS + CHUNK + TRAILER_WORDS  # at most, without pages
HEAD_WORDS: Final = 2 * _FRAME_WORDS + CHUNK * PAGE_SIZE // 8  # with checksums pages are copied
IOV_WORDS: Final = 2 * (2 + CHUNK)
_REQUEST: Final = int(frames.FrameType.REQUEST)
_PAGES: Final = int(frames.FrameType.PAGES)
_ZERO: Final = int(frames.FrameType.ZERO)
_PROBE: Final = int(frames.FrameType.PROBE)
_ANSWER: Final = int(frames.FrameType.ANSWER)

_VALUE: Final = 3  # `signal` uses it
_POLLFDS: Final = 4
_TIMEOUT: Final = 6
_MESSAGE: Final = 8  # struct msghdr
SCRATCH_WORDS: Final = 16


class ServerArrays(NamedTuple):
    """Everything that the server works on; it outlives the thread: kernels take its addresses."""

    ctl: ServerControl
    sent: NDArray[np.uint8]  # [n_pages], shared with the pusher
    words: NDArray[np.uint64]  # guest memory
    windows: NDArray[np.int64]  # [2 * WINDOWS], first page and end
    chunk: NDArray[np.int64]  # [CHUNK], pages of the next frames
    inbox: NDArray[np.int64]  # [INBOX_WORDS]
    head: NDArray[np.int64]  # [HEAD_WORDS]
    iov: NDArray[np.int64]  # [IOV_WORDS]
    scratch: NDArray[np.int64]  # [SCRATCH_WORDS]


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


@kernel
def _is_zero(words: NDArray[np.uint64], page: int) -> bool:
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
def _send_chunk(s: ServerArrays, n: int) -> None:
    """Send the first `n` pages of the chunk, sorted: a frame of zeros, a frame of pages."""
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
    message = s.scratch.ctypes.data + 8 * _MESSAGE
    total = signed(0)
    while at < count and s.ctl.failure == 0:
        for word in range(_MESSAGE, _MESSAGE + 7):
            s.scratch[word] = 0
        s.scratch[_MESSAGE + 2] = s.iov.ctypes.data + 16 * at
        s.scratch[_MESSAGE + 3] = count - at
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
def _send_probe(s: ServerArrays, kind: int, number: int) -> None:
    """Send a probe, or the answer to one."""
    s.iov[0] = s.head.ctypes.data
    s.iov[1] = 8 * put_bodyless(s.head, 0, kind, s.ctl.checked, number, s.ctl.attempt)
    _send_all(s, 1)


@kernel
def _keep_open(s: ServerArrays) -> int:
    """Send a probe if nothing was sent for a while; return the ns until one may be due again."""
    left = s.ctl.sent_ns + IDLE_NS - monotonic_ns(s.scratch)
    if left > 0:
        return signed(left)
    s.ctl.asked += 1
    _send_probe(s, _PROBE, s.ctl.asked & NUMBER)
    return signed(IDLE_NS)


@kernel
def _pay(s: ServerArrays) -> None:
    """Wait until what has been sent is at most `MOST_DEBT_NS` ahead of the rate."""
    debt = s.ctl.due_ns - monotonic_ns(s.scratch) - MOST_DEBT_NS
    if s.ctl.rate_Bps > 0 and debt > 0:
        s.scratch[_TIMEOUT], s.scratch[_TIMEOUT + 1] = 0, min(debt, 999_999_999)
        c_ppoll(0, 0, s.scratch.ctypes.data + 8 * _TIMEOUT, 0)


@kernel
def _demand(s: ServerArrays, page: int, window: int) -> None:
    ctl = s.ctl
    ctl.focus = page  # before the count: the pusher reads it when there is a new demand
    ctl.demands += 1
    old = swap_byte(s.sent.ctypes.data, page, PULLED)
    if old != PULLED:  # else it is on its way on this very connection
        if old == PUSHED:
            ctl.crossed += 1
        _pay(s)
        s.chunk[0] = page
        _send_chunk(s, 1)
    if window > 0:
        first, end = page + 1, min(page + 1 + window, len(s.sent))
        if ctl.due_ns - monotonic_ns(s.scratch) < DEBT_NS:
            first = _send_neighbours(s, first, end, AT_ONCE)
        _put_window(s, first, end)


@kernel
def _put_window(s: ServerArrays, first: int, end: int) -> None:
    """Note a wish for these pages, if any; where there is no room, the oldest wish goes."""
    if first >= end:
        return
    if s.ctl.last_window - s.ctl.first_window == WINDOWS:
        s.ctl.first_window += 1
    at = 2 * (s.ctl.last_window % WINDOWS)
    s.windows[at] = first
    s.windows[at + 1] = end
    s.ctl.last_window += 1


@kernel
def _send_neighbours(s: ServerArrays, page: int, end: int, most: int) -> int:
    """Send a frame of at most `most` unsent pages of [page, end); return where it ends."""
    n = signed(0)
    while page < end and n < most:
        if turn_byte(s.sent.ctypes.data, page, UNSENT, PULLED) != 0:
            s.chunk[n] = page
            n += 1
        page += 1
    if n > 0:
        _send_chunk(s, n)
    return page


@kernel
def _go_on(s: ServerArrays) -> None:
    """Send a frame of the oldest window's pages; the rest of the window goes behind the others."""
    at = 2 * (s.ctl.first_window % WINDOWS)
    page, end = s.windows[at], s.windows[at + 1]
    s.ctl.first_window += 1
    _put_window(s, _send_neighbours(s, page, end, CHUNK), end)


@kernel
def _receive(s: ServerArrays) -> None:
    """Take what the socket has, and answer it."""
    n, number = receive_once(s.ctl, s.inbox)
    if n > 0:
        _answer(s)
    elif n == 0:
        report_failure(s.ctl, s.scratch, ENDED if s.ctl.filled == 0 else BROKEN, 0)
    elif number != 0:
        report_failure(s.ctl, s.scratch, BROKEN, number)


@kernel
def _answer(s: ServerArrays) -> None:
    """Answer the whole frames of the inbox, up to a request that has to wait."""
    ctl = s.ctl
    checked = ctl.checked != 0
    words = HEADER_WORDS + TRAILER_WORDS if checked else HEADER_WORDS  # of a frame
    whole = ctl.filled // (8 * words)
    ctl.held = 0
    done = signed(0)
    while done < whole:
        at = words * done
        if checked and not is_sealed(s.inbox, at, at + HEADER_WORDS):
            report_failure(s.ctl, s.scratch, CORRUPT, 0)
            return
        if not _answer_one(s, s.inbox[at], s.inbox[at + 1]):
            report_failure(s.ctl, s.scratch, ILLEGAL, 0)
        if ctl.failure != 0:
            return
        if ctl.held != 0:
            break
        done += 1
    # SAFETY: both ends lie in the inbox, which may overlap itself.
    box = s.inbox.ctypes.data
    c_memmove(box, box + 8 * words * done, ctl.filled - 8 * words * done)
    ctl.filled -= 8 * words * done


@kernel
def _answer_one(s: ServerArrays, head: int, length: int) -> bool:
    """Answer a frame with this header. False: it is not legal."""
    kind, entries, value = kind_of(head), entries_of(head), value_of(head)
    if length != 0 or flags_of(head) != (CHECKED if s.ctl.checked != 0 else 0):
        return False
    if kind == _REQUEST:
        if value >= len(s.sent):
            return False
        if s.ctl.open == 0:
            s.ctl.held = 1
        else:
            _demand(s, value, entries)
        return True
    if value != s.ctl.attempt:
        return False
    if kind == _PROBE:
        _send_probe(s, _ANSWER, entries)
        return True
    return kind == _ANSWER and take_answer(s.ctl, s.scratch, entries)


@kernel
def _wait(s: ServerArrays, most_ns: int) -> bool:
    """Sleep until there is something to do; return whether neighbours may be sent now."""
    ctl, scratch = s.ctl, s.scratch
    wanted = POLLIN
    timeout = signed(most_ns)
    if ctl.first_window != ctl.last_window:
        left = ctl.due_ns - monotonic_ns(scratch) if ctl.rate_Bps > 0 else 0
        if left <= 0:
            wanted = POLLIN | POLLOUT
        else:
            timeout = min(timeout, left)
    # Nothing is read behind a request that waits: the inbox is no queue.
    scratch[_POLLFDS] = pollfd(ctl.socket if ctl.held == 0 else -1, wanted)
    scratch[_POLLFDS + 1] = pollfd(ctl.wake_fd, POLLIN)
    scratch[_TIMEOUT], scratch[_TIMEOUT + 1] = timeout // 1_000_000_000, timeout % 1_000_000_000
    # SAFETY: the kernel writes both pollfds and reads the timeout, all in the scratch array.
    at = scratch.ctypes.data
    if c_ppoll(at + 8 * _POLLFDS, 2, at + 8 * _TIMEOUT, 0) <= 0:
        scratch[_POLLFDS] = scratch[_POLLFDS + 1] = 0
    return bool(scratch[_POLLFDS] >> 48 & POLLOUT != 0)


@kernel
def serve(s: ServerArrays) -> None:
    """Serve one connection until it ends, or until `stop` is set.

    Args:
        s: Its control words name the socket; all of it is the server's meanwhile, except what
            Python writes.
    """
    ctl, scratch = s.ctl, s.scratch
    ctl.serving = 1
    while True:
        fence()
        if ctl.stop != 0 or ctl.failure != 0:
            return
        if ctl.held != 0 and ctl.open != 0:
            _answer(s)
        writable = _wait(s, _keep_open(s))
        if scratch[_POLLFDS + 1] >> 48 != 0:
            c_read(ctl.wake_fd, scratch.ctypes.data + 8 * _VALUE, 8)
        if scratch[_POLLFDS] >> 48 & ~POLLOUT != 0:
            _receive(s)
        elif writable:
            _go_on(s)
