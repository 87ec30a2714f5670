"""The page server's thread, compiled: requests in, pages of the paused guest out.

A demanded page is sent at once, alone. Its neighbours follow in small frames, and between two of
those the server looks for new requests: a demanded page waits for one of them at most. Each page
travels once: whoever turns its `sent` byte sends it. Only a demanded page that was pushed is sent
again, because its copy may stand in a long queue.
"""

from __future__ import annotations

from typing import Final

from pageferry.common.guest.atomics import swap_byte, turn_byte
from pageferry.common.guest.native import fence, monotonic_ns, signed
from pageferry.common.guest.syscalls import POLLIN, POLLOUT, c_memmove, c_ppoll, c_read, pollfd
from pageferry.common.urgent.control import BROKEN, CORRUPT, ENDED, ILLEGAL
from pageferry.common.urgent.kernels import (
    CHECKED,
    HEADER_WORDS,
    TRAILER_WORDS,
    entries_of,
    flags_of,
    is_sealed,
    kind_of,
    receive_once,
    report_failure,
    take_answer,
    value_of,
)
from pageferry.common.wire import frames
from pageferry.source_agent.postcopy.kernel.responses import keep_open, send_chunk, send_probe
from pageferry.source_agent.postcopy.kernel.state import (
    CHUNK,
    POLLFDS,
    PULLED,
    PUSHED,
    TIMEOUT,
    UNSENT,
    VALUE,
    WINDOWS,
    ServerArrays,
    kernel,
)

# Neighbours sent right behind a demanded page: a sequential reader touches the next page before a
# paced frame could come, and that demand would hold the frame up again. Only while we are no more
# than this ahead of the rate: many readers together would exceed it.
AT_ONCE: Final = 8
DEBT_NS: Final = 1_000_000
# How far ahead of the rate demanded pages may get. A guest that asks for more waits, as it would on
# a link of that rate.
MOST_DEBT_NS: Final = 5_000_000
_REQUEST: Final = int(frames.FrameType.REQUEST)
_PROBE: Final = int(frames.FrameType.PROBE)
_ANSWER: Final = int(frames.FrameType.ANSWER)


@kernel
def _pay(s: ServerArrays) -> None:
    """Wait until what has been sent is at most `MOST_DEBT_NS` ahead of the rate."""
    debt = s.ctl.due_ns - monotonic_ns(s.scratch) - MOST_DEBT_NS
    if s.ctl.rate_Bps > 0 and debt > 0:
        s.scratch[TIMEOUT], s.scratch[TIMEOUT + 1] = 0, min(debt, 999_999_999)
        c_ppoll(0, 0, s.scratch.ctypes.data + 8 * TIMEOUT, 0)


@kernel
def _demand(s: ServerArrays, page: int, window: int) -> None:
    """Send a demanded page, then those of the `window` pages behind it that may go at once.

    The others become a wish.
    """
    ctl = s.ctl
    ctl.focus = page  # before the count: the pusher reads it when there is a new demand
    ctl.demands += 1
    old = swap_byte(s.sent.ctypes.data, page, PULLED)
    if old != PULLED:  # else it is on its way on this very connection
        if old == PUSHED:
            ctl.crossed += 1
        _pay(s)
        s.chunk[0] = page
        send_chunk(s, 1)
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
        send_chunk(s, n)
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
        send_probe(s, _ANSWER, entries)
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
    scratch[POLLFDS] = pollfd(ctl.socket if ctl.held == 0 else -1, wanted)
    scratch[POLLFDS + 1] = pollfd(ctl.wake_fd, POLLIN)
    scratch[TIMEOUT], scratch[TIMEOUT + 1] = timeout // 1_000_000_000, timeout % 1_000_000_000
    # SAFETY: the kernel writes both pollfds and reads the timeout, all in the scratch array.
    at = scratch.ctypes.data
    if c_ppoll(at + 8 * POLLFDS, 2, at + 8 * TIMEOUT, 0) <= 0:
        scratch[POLLFDS] = scratch[POLLFDS + 1] = 0
    return bool(scratch[POLLFDS] >> 48 & POLLOUT != 0)


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
        writable = _wait(s, keep_open(s))
        if scratch[POLLFDS + 1] >> 48 != 0:
            c_read(ctl.wake_fd, scratch.ctypes.data + 8 * VALUE, 8)
        if scratch[POLLFDS] >> 48 & ~POLLOUT != 0:
            _receive(s)
        elif writable:
            _go_on(s)
