"""The page server's thread, compiled: requests in, pages of the paused guest out.

A demanded page is sent at once, alone. Its neighbours follow in small frames, and between two of
those the server looks for new requests: a demanded page waits for at most one of them. Each page
travels once: whoever turns its `sent` byte sends it. Only a demanded page that was pushed goes
again, because its copy may stand in a long queue.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pageferry.common.guest.atomics import peek_word, swap_byte, turn_byte
from pageferry.common.guest.checksum import xxh3_64
from pageferry.common.guest.kernels import kernels_of
from pageferry.common.guest.native import fence, monotonic_ns, signal, signed
from pageferry.common.guest.syscalls import (
    EAGAIN,
    EINTR,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    POLLIN,
    POLLOUT,
    c_memmove,
    c_ppoll,
    c_read,
    c_recv,
    c_sendmsg,
    errno,
    pollfd,
)
from pageferry.common.units import PAGE_SIZE
from pageferry.common.wire import frames, header, probes

kernel = kernels_of(Path(__file__).parent, Path(frames.__file__), Path(probes.__file__))

# -- control words: written by Python --------------------------------------------------------------
STOP: Final = 0
SOCKET: Final = 1
WAKE_FD: Final = 2
EVENT_FD: Final = 3  # the connection has ended
BASE: Final = 4  # address of guest memory
RATE_BPS: Final = 5  # of neighbours; 0: no limit
CHECKED: Final = 6  # 1: frames have checksums
ATTEMPT: Final = 7  # of the connection
OPEN: Final = 8  # 1: requests are answered; 0: the first one waits, and what comes behind it
# -- written by the server -------------------------------------------------------------------------
FAILURE: Final = 16
FAILURE_ERRNO: Final = 17
FILLED: Final = 18  # bytes in the inbox
FIRST_WINDOW: Final = 19  # windows [FIRST_WINDOW, LAST_WINDOW) of the ring are to be sent
LAST_WINDOW: Final = 20
DUE_NS: Final = 21  # when neighbours may be sent again
SERVING: Final = 22  # 1: the thread is in here, and needs no interpreter lock any more
FOCUS: Final = 24  # the last demanded page, -1: none yet
DEMANDS: Final = 25
CROSSED: Final = 26  # demands of pages that had been pushed already
PULLED_PAGES: Final = 27  # sent from here, neighbours and zero pages included
ZERO_PAGES: Final = 28  # of these
SENT_BYTES: Final = 29
RECEIVED_BYTES: Final = 30
HELD: Final = 32  # 1: a request waits in the inbox
SENT_NS: Final = 33  # when something was sent last
ASKED: Final = 34  # probes that were sent on this connection
ANSWERED: Final = 35  # of which so many have been answered
CONTROL_WORDS: Final = 40

# -- codes of FAILURE ------------------------------------------------------------------------------
ENDED: Final = 1
BROKEN: Final = 2  # the system says why in FAILURE_ERRNO
ILLEGAL: Final = 3
CORRUPT: Final = 4  # its checksum is wrong

# -- `sent` bytes ----------------------------------------------------------------------------------
UNSENT: Final = 0
PUSHED: Final = 1
PULLED: Final = 2

# Neighbours in a frame: what a demanded page may have to wait for.
CHUNK: Final = frames.MAX_URGENT_PAGES
# Neighbours that go right behind a demanded page: a reader that goes on touches the next page
# before a paced frame could come, and that demand would hold the frame up again. Only as long as we
# are no more than this ahead of the rate: many readers together would go beyond it.
AT_ONCE: Final = 8
DEBT_NS: Final = 1_000_000
# As far ahead of the rate as demanded pages may get. A guest that asks for more than the rate
# waits, as it would on a link of that rate.
MOST_DEBT_NS: Final = 5_000_000
WINDOWS: Final = 256  # a ring: when it is full the oldest wish is forgotten
INBOX_WORDS: Final = 512
HEAD_WORDS: Final = 2 * (2 + CHUNK + 1) + CHUNK * PAGE_SIZE // 8  # with checksums pages are copied
IOV_WORDS: Final = 2 * (2 + CHUNK)
_REQUEST: Final = int(frames.FrameType.REQUEST)
_PAGES: Final = int(frames.FrameType.PAGES)
_ZERO: Final = int(frames.FrameType.ZERO)
_PROBE: Final = int(frames.FrameType.PROBE)
_ANSWER: Final = int(frames.FrameType.ANSWER)
_NUMBER: Final = probes.MAX_NUMBER
_FLAGS: Final = header.CHECKED << 8
_IDLE_NS: Final = int(probes.IDLE_S * 1e9)

_VALUE: Final = 3  # `signal` uses it
_POLLFDS: Final = 4
_TIMEOUT: Final = 6
_MESSAGE: Final = 8  # struct msghdr
SCRATCH_WORDS: Final = 16


class ServerArrays(NamedTuple):
    """Everything that the server works on."""

    ctl: NDArray[np.int64]  # [CONTROL_WORDS]
    sent: NDArray[np.uint8]  # [n_pages], shared with who pushes
    words: NDArray[np.uint64]  # guest memory
    windows: NDArray[np.int64]  # [2 * WINDOWS], first page and end
    chunk: NDArray[np.int64]  # [CHUNK], pages of the next frames
    inbox: NDArray[np.int64]  # [INBOX_WORDS]
    head: NDArray[np.int64]  # [HEAD_WORDS]
    iov: NDArray[np.int64]  # [IOV_WORDS]
    scratch: NDArray[np.int64]  # [SCRATCH_WORDS]


@kernel
def next_unsent(sent: NDArray[np.uint8], start: int, max_pages: int, out: NDArray[np.int64]) -> int:
    """The next unsent pages from `start` on, marked as pushed, into `out`; how many.

    They are sorted: where memory ends the search begins again at 0 only if there was none. 0: all
    pages have been sent.
    """
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
    """Whether none of eight bytes, each 0, 1 or 2, is 0."""
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
def _fail(s: ServerArrays, code: int, number: int) -> None:
    s.ctl[FAILURE_ERRNO] = number
    fence()
    s.ctl[FAILURE] = code
    signal(s.scratch, s.ctl[EVENT_FD])


@kernel
def _build_frame(s: ServerArrays, n: int, kind: int, at: int) -> int:
    """A frame's head in `s.head[at:]`, of those pages of the chunk that are (not) zero.

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
            s.head[at + 1 + entries] += 1 << 32
        else:
            s.head[at + 2 + entries] = page | (1 << 32)
            entries += 1
        last = page
        pages += 1
    if entries == 0:
        return 0
    s.head[at] = kind | (entries << 16) | (_FLAGS if s.ctl[CHECKED] != 0 else 0)
    s.head[at + 1] = 8 * entries + (pages * PAGE_SIZE if kind == _PAGES else 0)
    return 2 + entries


@kernel
def _seal(s: ServerArrays, first: int, end: int) -> int:
    """Put the checksum of these words of `s.head` behind them; returns where that ends."""
    s.head[end] = signed(xxh3_64(s.head.ctypes.data + 8 * first, 8 * (end - first)))
    return end + 1


@kernel
def _build_checked(s: ServerArrays, n: int) -> int:
    """Both frames of the chunk's pages in `s.head`, whole, side by side; returns the words."""
    end = _build_frame(s, n, _ZERO, 0)
    if end > 0:
        end = _seal(s, 0, end)
    first = end
    end += _build_frame(s, n, _PAGES, first)
    if end == first:
        return end
    for i in range(n):
        if s.chunk[i] >= 0:
            at = s.head.ctypes.data + 8 * end
            c_memmove(at, s.ctl[BASE] + s.chunk[i] * PAGE_SIZE, PAGE_SIZE)
            end += PAGE_SIZE // 8
    return _seal(s, first, end)


@kernel
def _send_chunk(s: ServerArrays, n: int) -> None:
    """Send the first `n` pages of the chunk, sorted: a frame of zeros, a frame of pages."""
    for i in range(n):
        if _is_zero(s.words, s.chunk[i]):
            s.chunk[i] = -1 - s.chunk[i]
            s.ctl[ZERO_PAGES] += 1
    s.ctl[PULLED_PAGES] += n
    if s.ctl[CHECKED] != 0:
        s.iov[0] = s.head.ctypes.data
        s.iov[1] = 8 * _build_checked(s, n)
        _send_all(s, 1)
        return
    zeros = _build_frame(s, n, _ZERO, 0)
    fulls = _build_frame(s, n, _PAGES, zeros)
    s.iov[0] = s.head.ctypes.data
    s.iov[1] = 8 * (zeros + fulls)
    count = signed(1)
    for i in range(zeros + 2, zeros + fulls):
        s.iov[2 * count] = s.ctl[BASE] + (s.head[i] & 0xFFFFFFFF) * PAGE_SIZE
        s.iov[2 * count + 1] = (s.head[i] >> 32) * PAGE_SIZE
        count += 1
    _send_all(s, count)


@kernel
def _send_all(s: ServerArrays, count: int) -> None:
    """Send what the iov says, however long the peer takes to read it."""
    at = signed(0)
    message = s.scratch.ctypes.data + 8 * _MESSAGE
    total = signed(0)
    while at < count and s.ctl[FAILURE] == 0:
        for word in range(_MESSAGE, _MESSAGE + 7):
            s.scratch[word] = 0
        s.scratch[_MESSAGE + 2] = s.iov.ctypes.data + 16 * at
        s.scratch[_MESSAGE + 3] = count - at
        n = c_sendmsg(s.ctl[SOCKET], message, MSG_NOSIGNAL)
        if n < 0:
            number = errno()
            if number != EINTR:
                _fail(s, BROKEN, number)
            continue
        total += n
        while at < count and n >= s.iov[2 * at + 1]:
            n -= s.iov[2 * at + 1]
            at += 1
        if n > 0:
            s.iov[2 * at] += n
            s.iov[2 * at + 1] -= n
    s.ctl[SENT_BYTES] += total
    now = monotonic_ns(s.scratch)
    s.ctl[SENT_NS] = now
    if s.ctl[RATE_BPS] > 0:
        s.ctl[DUE_NS] = max(s.ctl[DUE_NS], now) + total * 1_000_000_000 // s.ctl[RATE_BPS]


@kernel
def _send_probe(s: ServerArrays, kind: int, number: int) -> None:
    """A probe, or the answer to one."""
    checked = s.ctl[CHECKED] != 0
    s.head[0] = kind | (number << 16) | (s.ctl[ATTEMPT] << 32) | (_FLAGS if checked else 0)
    s.head[1] = 0
    s.iov[0] = s.head.ctypes.data
    s.iov[1] = 8 * _seal(s, 0, 2) if checked else 16
    _send_all(s, 1)


@kernel
def _keep_open(s: ServerArrays) -> int:
    """Send a probe if nothing has gone for a while; how long that takes from now on, ns."""
    left = s.ctl[SENT_NS] + _IDLE_NS - monotonic_ns(s.scratch)
    if left > 0:
        return signed(left)
    s.ctl[ASKED] += 1
    _send_probe(s, _PROBE, s.ctl[ASKED] & _NUMBER)
    return signed(_IDLE_NS)


@kernel
def _answered(s: ServerArrays, number: int) -> bool:
    """An answer has come. False: none was due."""
    ctl = s.ctl
    if ctl[ANSWERED] == ctl[ASKED] or number != (ctl[ANSWERED] + 1) & _NUMBER:
        return False
    ctl[ANSWERED] += 1
    if ctl[ANSWERED] == 1:
        signal(s.scratch, ctl[EVENT_FD])
    return True


@kernel
def _pay(s: ServerArrays) -> None:
    """Wait until what has been sent is at most `MOST_DEBT_NS` ahead of the rate."""
    debt = s.ctl[DUE_NS] - monotonic_ns(s.scratch) - MOST_DEBT_NS
    if s.ctl[RATE_BPS] > 0 and debt > 0:
        s.scratch[_TIMEOUT], s.scratch[_TIMEOUT + 1] = 0, min(debt, 999_999_999)
        c_ppoll(0, 0, s.scratch.ctypes.data + 8 * _TIMEOUT, 0)


@kernel
def _demand(s: ServerArrays, page: int, window: int) -> None:
    ctl = s.ctl
    ctl[FOCUS] = page  # before the count: who pushes looks at it when there is a new demand
    ctl[DEMANDS] += 1
    old = swap_byte(s.sent.ctypes.data, page, PULLED)
    if old != PULLED:  # else it is on its way on this very connection
        if old == PUSHED:
            ctl[CROSSED] += 1
        _pay(s)
        s.chunk[0] = page
        _send_chunk(s, 1)
    if window > 0:
        first, end = page + 1, min(page + 1 + window, len(s.sent))
        if ctl[DUE_NS] - monotonic_ns(s.scratch) < DEBT_NS:
            first = _send_neighbours(s, first, end, AT_ONCE)
        _put_window(s, first, end)


@kernel
def _put_window(s: ServerArrays, first: int, end: int) -> None:
    """These pages are wished for, if any; where there is no room, the oldest wish goes."""
    if first >= end:
        return
    if s.ctl[LAST_WINDOW] - s.ctl[FIRST_WINDOW] == WINDOWS:
        s.ctl[FIRST_WINDOW] += 1
    at = 2 * (s.ctl[LAST_WINDOW] % WINDOWS)
    s.windows[at] = first
    s.windows[at + 1] = end
    s.ctl[LAST_WINDOW] += 1


@kernel
def _send_neighbours(s: ServerArrays, page: int, end: int, most: int) -> int:
    """A frame of at most so many unsent pages of [page, end); returns where it ends."""
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
    """A frame of the oldest window's pages; what is left of it goes behind the others."""
    at = 2 * (s.ctl[FIRST_WINDOW] % WINDOWS)
    page, end = s.windows[at], s.windows[at + 1]
    s.ctl[FIRST_WINDOW] += 1
    _put_window(s, _send_neighbours(s, page, end, CHUNK), end)


@kernel
def _receive(s: ServerArrays) -> None:
    """Take what the socket has, and answer it."""
    ctl = s.ctl
    box = s.inbox.ctypes.data
    n = c_recv(ctl[SOCKET], box + ctl[FILLED], 8 * INBOX_WORDS - ctl[FILLED], MSG_DONTWAIT)
    if n <= 0:
        number = errno()
        if n == 0:
            _fail(s, ENDED if ctl[FILLED] == 0 else BROKEN, 0)
        elif number not in (EAGAIN, EINTR):
            _fail(s, BROKEN, number)
        return
    ctl[FILLED] += n
    ctl[RECEIVED_BYTES] += n
    _answer(s)


@kernel
def _answer(s: ServerArrays) -> None:
    """Answer the whole frames of the inbox, up to a request that has to wait."""
    ctl = s.ctl
    box = s.inbox.ctypes.data
    checked = ctl[CHECKED] != 0
    words = 3 if checked else 2  # of a frame
    whole = ctl[FILLED] // (8 * words)
    ctl[HELD] = 0
    done = signed(0)
    while done < whole:
        at = words * done
        if checked and signed(xxh3_64(box + 8 * at, 16)) != s.inbox[at + 2]:
            _fail(s, CORRUPT, 0)
            return
        if not _answer_one(s, s.inbox[at], s.inbox[at + 1]):
            _fail(s, ILLEGAL, 0)
        if ctl[FAILURE] != 0:
            return
        if ctl[HELD] != 0:
            break
        done += 1
    c_memmove(box, box + 8 * words * done, ctl[FILLED] - 8 * words * done)
    ctl[FILLED] -= 8 * words * done


@kernel
def _answer_one(s: ServerArrays, first: int, length: int) -> bool:
    """A frame of this header. False: it is not legal."""
    head = np.uint64(first)
    kind = signed(head & np.uint64(0xFFFF)) ^ (_FLAGS if s.ctl[CHECKED] != 0 else 0)
    entries = signed((head >> np.uint64(16)) & np.uint64(0xFFFF))
    value = signed(head >> np.uint64(32))
    if length != 0:
        return False
    if kind == _REQUEST:
        if value >= len(s.sent):
            return False
        if s.ctl[OPEN] == 0:
            s.ctl[HELD] = 1
        else:
            _demand(s, value, entries)
        return True
    if value != s.ctl[ATTEMPT]:
        return False
    if kind == _PROBE:
        _send_probe(s, _ANSWER, entries)
        return True
    return kind == _ANSWER and _answered(s, entries)


@kernel
def _wait(s: ServerArrays, most_ns: int) -> bool:
    """Sleep until there is something to do; True: neighbours may be sent now."""
    ctl, scratch = s.ctl, s.scratch
    wanted = POLLIN
    timeout = signed(most_ns)
    if ctl[FIRST_WINDOW] != ctl[LAST_WINDOW]:
        left = ctl[DUE_NS] - monotonic_ns(scratch) if ctl[RATE_BPS] > 0 else 0
        if left <= 0:
            wanted = POLLIN | POLLOUT
        else:
            timeout = min(timeout, left)
    # Behind a request that waits nothing is read: the inbox is no queue.
    scratch[_POLLFDS] = pollfd(ctl[SOCKET] if ctl[HELD] == 0 else -1, wanted)
    scratch[_POLLFDS + 1] = pollfd(ctl[WAKE_FD], POLLIN)
    scratch[_TIMEOUT], scratch[_TIMEOUT + 1] = timeout // 1_000_000_000, timeout % 1_000_000_000
    at = scratch.ctypes.data
    if c_ppoll(at + 8 * _POLLFDS, 2, at + 8 * _TIMEOUT, 0) <= 0:
        scratch[_POLLFDS] = scratch[_POLLFDS + 1] = 0
    return bool(scratch[_POLLFDS] >> 48 & POLLOUT != 0)


@kernel
def serve(s: ServerArrays) -> None:
    """The server's life: until STOP, or until the connection ends."""
    ctl, scratch = s.ctl, s.scratch
    ctl[SERVING] = 1
    while True:
        fence()
        if ctl[STOP] != 0 or ctl[FAILURE] != 0:
            return
        if ctl[HELD] != 0 and ctl[OPEN] != 0:
            _answer(s)
        writable = _wait(s, _keep_open(s))
        if scratch[_POLLFDS + 1] >> 48 != 0:
            c_read(ctl[WAKE_FD], scratch.ctypes.data + 8 * _VALUE, 8)
        if scratch[_POLLFDS] >> 48 & ~POLLOUT != 0:
            _receive(s)
        elif writable:
            _go_on(s)
