"""The fault handler's thread, compiled: from a vCPU's fault to the page in its place.

It reads faults (from a userfaultfd, or from the vCPUs' control words), asks the source for the
pages on the urgent socket, and places what comes back. It never needs the interpreter lock: a
Python thread that touches a missing page while it holds the lock is served like a vCPU.
"""

from __future__ import annotations

from typing import Final

from pageferry.common.guest.atomics import peek_word, turn_byte
from pageferry.common.guest.control import WANTED as VCPU_WANTED
from pageferry.common.guest.native import fence, monotonic_ns, peek_byte, signal
from pageferry.common.guest.syscalls import POLLIN, POLLOUT, c_ppoll, c_read, pollfd
from pageferry.common.units import PAGE_SIZE
from pageferry.common.userfault import MESSAGE_BYTES, PAGEFAULT
from pageferry.common.wire.frames import FrameType
from pageferry.dest_agent.postcopy.kernel.placement import place_once, stamp_arrival, wake
from pageferry.dest_agent.postcopy.kernel.prefetch import region_of, window
from pageferry.dest_agent.postcopy.kernel.requests import fail, flush, keep_open, queue
from pageferry.dest_agent.postcopy.kernel.responses import receive
from pageferry.dest_agent.postcopy.kernel.state import (
    MESSAGES,
    MISSING,
    PENDING_SLOTS,
    PENDING_WORDS,
    POLLFDS,
    PRESENT,
    READ_FAULTS,
    REQUESTED,
    TIMEOUT,
    TRACE_RECORDS,
    TRACE_WORDS,
    UNREAD,
    VALUE,
    FaultArrays,
    kernel,
)

_REQUEST: Final = int(FrameType.REQUEST)


@kernel
def _record(f: FaultArrays, page: int, read_ns: int, placed_ns: int) -> None:
    ctl = f.ctl
    if ctl.trace_head - ctl.trace_tail >= TRACE_RECORDS:
        ctl.untraced += 1
        return
    at = (ctl.trace_head & (TRACE_RECORDS - 1)) * TRACE_WORDS
    f.trace[at] = read_ns
    f.trace[at + 1] = max(placed_ns - read_ns, 0)
    f.trace[at + 2] = page
    f.trace[at + 3] = region_of(f, page)
    fence()
    ctl.trace_head += 1


@kernel
def finish_faults(f: FaultArrays) -> None:
    """Record the faults whose pages have been placed, no matter by whom.

    Args:
        f: Its `pending` slots are freed, and its `trace` is added to.
    """
    for at in range(0, PENDING_SLOTS * PENDING_WORDS, PENDING_WORDS):
        if f.pending[at] >= 0 and f.pending[at + 2] != 0:
            _record(f, f.pending[at], f.pending[at + 1], f.pending[at + 2])
            f.pending[at] = -1


@kernel
def track_fault(f: FaultArrays, page: int, now: int) -> None:
    """Note that a fault waits for a page; its record is made when the page has come.

    Args:
        f: Gets a pending slot, or counts the fault as untraced if there is none left.
        page: Its number; it was missing when the fault was read.
        now: When the fault was read, CLOCK_MONOTONIC ns.
    """
    for at in range(0, PENDING_SLOTS * PENDING_WORDS, PENDING_WORDS):
        if f.pending[at] < 0:
            f.pending[at + 1] = now
            f.pending[at + 2] = 0
            fence()
            f.pending[at] = page
            return
    f.ctl.untraced += 1


@kernel
def queue_request(f: FaultArrays, page: int, neighbours: int) -> None:
    """Queue a request; without a connection it is made when there is one again.

    Args:
        f: Loses its connection if there is no room: the peer does not read.
        page: Its number; its status is REQUESTED.
        neighbours: Pages behind it that the source may send, too.
    """
    ctl = f.ctl
    if ctl.socket < 0:
        return
    if not queue(f, _REQUEST, neighbours, page):
        fail(f, UNREAD, 0)
        return
    ctl.requests += 1


@kernel
def handle_page_fault(f: FaultArrays, page: int, now: int) -> None:
    """Handle the fault of a thread that waits for a page.

    Args:
        f: The handler's.
        page: Its number, within the guest.
        now: When the fault was read, CLOCK_MONOTONIC ns.
    """
    ctl = f.ctl
    status = f.status.ctypes.data
    if turn_byte(status, page, MISSING, REQUESTED) != 0:
        ctl.faults += 1
        track_fault(f, page, now)
        queue_request(f, page, window(f, page))
    elif peek_byte(status, page) == REQUESTED:
        ctl.faults += 1
        track_fault(f, page, now)
        if peek_byte(status, page) == PRESENT:  # placed between the two looks
            stamp_arrival(f.target, page, monotonic_ns(f.scratch))
    elif ctl.uffd >= 0:
        # Either placed since the fault, or never missing and never written: then it is zero.
        _, failure = place_once(f.target, page, 1, 0, f.scratch)
        if failure == 0:
            ctl.zero_fills += 1
            return
        wake(f.target, page, f.scratch)
        ctl.faults += 1
        _record(f, page, now, monotonic_ns(f.scratch))
    else:
        ctl.faults += 1  # whoever places it wakes the vCPU
        _record(f, page, now, monotonic_ns(f.scratch))


@kernel
def _read_userfaults(f: FaultArrays) -> None:
    ctl = f.ctl
    # SAFETY: the scratch array has READ_FAULTS messages of room behind MESSAGES, and outlives us.
    at = f.scratch.ctypes.data + 8 * MESSAGES
    n = c_read(ctl.uffd, at, MESSAGE_BYTES * READ_FAULTS)
    now = monotonic_ns(f.scratch)
    for i in range(MESSAGES, MESSAGES + n // 8, 4):
        if f.scratch[i] & 0xFF == PAGEFAULT:
            handle_page_fault(f, (f.scratch[i + 2] - ctl.memory_at) // PAGE_SIZE, now)


@kernel
def _read_wanted(f: FaultArrays) -> None:
    """Handle the pages that vCPUs wait for and that have not been seen yet."""
    # SAFETY: `vcpus` are addresses of control words that the handler's owner keeps alive.
    c_read(f.ctl.fault_fd, f.scratch.ctypes.data + 8 * VALUE, 8)
    fence()
    now = monotonic_ns(f.scratch)
    for vcpu in range(len(f.vcpus)):
        page = peek_word(f.vcpus[vcpu] + 8 * VCPU_WANTED)
        if 0 <= page < len(f.status) and page != f.seen[vcpu]:
            f.seen[vcpu] = page
            handle_page_fault(f, page, now)


@kernel
def _begin_anew(f: FaultArrays) -> None:
    """Take over the socket that Python wants, from the beginning of a frame.

    Every page that is still waited for is asked for again.
    """
    ctl = f.ctl
    ctl.socket = ctl.wanted_socket
    ctl.failure = 0
    ctl.filled = ctl.parsed = ctl.part = ctl.out_filled = ctl.out_sent = 0
    ctl.sent_ns = ctl.asked = ctl.answered = 0
    if ctl.socket >= 0:
        for page in range(len(f.status)):
            if f.status[page] == REQUESTED:
                queue_request(f, page, 0)


@kernel
def apply_command(f: FaultArrays) -> None:
    """Do what Python has commanded, and say that it is done.

    Args:
        f: Its control words are read anew from here on.
    """
    ctl = f.ctl
    command = ctl.command
    fence()
    if ctl.anew != 0:
        _begin_anew(f)
    fence()
    ctl.applied = command
    signal(f.scratch, ctl.done_fd)


@kernel
def _wait(f: FaultArrays, most_ns: int) -> None:
    """Sleep until there is something to do; the answer is in the scratch array."""
    ctl, scratch = f.ctl, f.scratch
    scratch[POLLFDS] = pollfd(ctl.fault_fd, POLLIN)
    scratch[POLLFDS + 1] = pollfd(ctl.wake_fd, POLLIN)
    wanted = POLLIN if ctl.out_filled == ctl.out_sent else POLLIN | POLLOUT
    scratch[POLLFDS + 2] = pollfd(ctl.socket, wanted)
    scratch[TIMEOUT], scratch[TIMEOUT + 1] = most_ns // 1_000_000_000, most_ns % 1_000_000_000
    # SAFETY: the kernel writes the three pollfds and reads the timeout, all in the scratch array.
    at = scratch.ctypes.data
    if c_ppoll(at + 8 * POLLFDS, 3, at + 8 * TIMEOUT, 0) <= 0:
        for i in range(3):
            scratch[POLLFDS + i] = 0


@kernel
def serve(f: FaultArrays) -> None:
    """Serve faults until Python sets `stop`.

    Args:
        f: Owned by the caller, and used by no other handler.
    """
    ctl, scratch = f.ctl, f.scratch
    while True:
        fence()
        if ctl.stop != 0:
            break
        if ctl.applied != ctl.command:
            apply_command(f)
        left = keep_open(f)
        flush(f)
        _wait(f, left)
        if scratch[POLLFDS + 1] >> 48 != 0:
            c_read(ctl.wake_fd, scratch.ctypes.data + 8 * VALUE, 8)
        if scratch[POLLFDS] >> 48 != 0:
            if ctl.uffd >= 0:
                _read_userfaults(f)
            else:
                _read_wanted(f)
            flush(f)
        if scratch[POLLFDS + 2] >> 48 & ~POLLOUT != 0 and ctl.socket >= 0:
            receive(f)
        finish_faults(f)
    finish_faults(f)
