"""Placing pages, for the fault handler and the bulk receivers alike.

Who places a page when a push and a pull cross is decided once, and in one place for each mechanism:
by the kernel (the second UFFDIO_COPY gets EEXIST), or by the page's status byte. What came second
is counted and dropped: the guest may have written to the page meanwhile.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pageferry.common.guest.atomics import add_word, peek_word, swap_byte, turn_byte
from pageferry.common.guest.control import WAKE_FD as VCPU_WAKE_FD
from pageferry.common.guest.control import WANTED as VCPU_WANTED
from pageferry.common.guest.jit import inlined
from pageferry.common.guest.native import monotonic_ns, peek_byte, signal, signed
from pageferry.common.guest.syscalls import (
    EAGAIN,
    EEXIST,
    MADV_DONTNEED,
    c_ioctl,
    c_madvise,
    c_memmove,
    errno,
)
from pageferry.common.units import PAGE_SIZE
from pageferry.common.urgent.kernels import count_of, first_of
from pageferry.common.userfault import COPY_REQUEST, WAKE_REQUEST, ZEROPAGE_REQUEST
from pageferry.dest_agent.postcopy.kernel.state import (
    ARGUMENT,
    DUPLICATES,
    MISSING,
    MISSING_COUNT,
    PENDING_SLOTS,
    PENDING_WORDS,
    PLACING,
    PRESENT,
    PUSHED,
    REQUESTED,
    PlaceTarget,
    kernel,
)


@kernel
def stamp_arrival(t: PlaceTarget, page: int, now: int) -> None:
    """Note when a page came that faults wait for; the handler collects that.

    Args:
        t: Its `pending` slots of this page are stamped.
        page: Its number.
        now: When it was placed, CLOCK_MONOTONIC ns.
    """
    for at in range(0, PENDING_SLOTS * PENDING_WORDS, PENDING_WORDS):
        if t.pending[at] == page and t.pending[at + 2] == 0:
            t.pending[at + 2] = now


@kernel
def _arrived(t: PlaceTarget, first: int, end: int, scratch: NDArray[np.int64]) -> int:
    """Mark pages as present; return how many were not, as far as the status knew."""
    status = t.status.ctypes.data
    now = signed(0)
    new = signed(0)
    for page in range(first, end):
        old = swap_byte(status, page, PRESENT)
        if old != PRESENT:
            new += 1
        if old == REQUESTED:
            if now == 0:
                now = monotonic_ns(scratch)
            stamp_arrival(t, page, now)
    return new


@kernel
def _count_down(t: PlaceTarget, new: int, scratch: NDArray[np.int64]) -> None:
    # SAFETY: a word of the control record, which outlives whoever places pages.
    if new > 0 and add_word(t.words.ctypes.data + 8 * MISSING_COUNT, -new) == 0:
        signal(scratch, t.event_fd)


@inlined
def _count(t: PlaceTarget, counter: int, n: int) -> None:
    # SAFETY: likewise; `counter` is the number of one of its words.
    add_word(t.words.ctypes.data + 8 * counter, n)


@kernel
def wake(t: PlaceTarget, page: int, scratch: NDArray[np.int64]) -> None:
    """Let threads that wait for a page in the kernel try again.

    Args:
        t: With userfaultfd.
        page: Its number.
        scratch: int64[SCRATCH_WORDS] of the calling thread.
    """
    scratch[ARGUMENT] = t.memory_at + page * PAGE_SIZE
    scratch[ARGUMENT + 1] = PAGE_SIZE
    c_ioctl(t.uffd, WAKE_REQUEST, scratch.ctypes.data + 8 * ARGUMENT)


@kernel
def place_once(
    t: PlaceTarget, first: int, count: int, source: int, scratch: NDArray[np.int64]
) -> tuple[int, int]:
    """Do one UFFDIO_COPY, or UFFDIO_ZEROPAGE for zeros.

    Args:
        t: With userfaultfd.
        first: The first page's number.
        count: Pages.
        source: Address of their contents; 0 for zeros.
        scratch: int64[SCRATCH_WORDS] of the calling thread.

    Returns:
        (bytes placed, an error's number or 0).
    """
    # SAFETY: the pages are registered with `uffd`, so the kernel refuses what is not guest memory;
    # `source` is a buffer of the caller's of `count` pages, and the argument lies in its scratch.
    at = scratch.ctypes.data + 8 * ARGUMENT
    scratch[ARGUMENT] = t.memory_at + first * PAGE_SIZE
    if source == 0:
        scratch[ARGUMENT + 1] = count * PAGE_SIZE
        scratch[ARGUMENT + 2] = scratch[ARGUMENT + 3] = 0
        failed = c_ioctl(t.uffd, ZEROPAGE_REQUEST, at) != 0
        done = scratch[ARGUMENT + 3]
    else:
        scratch[ARGUMENT + 1] = source
        scratch[ARGUMENT + 2] = count * PAGE_SIZE
        scratch[ARGUMENT + 3] = scratch[ARGUMENT + 4] = 0
        failed = c_ioctl(t.uffd, COPY_REQUEST, at) != 0
        done = scratch[ARGUMENT + 4]
    if not failed:
        return count * PAGE_SIZE, 0
    return max(done, 0), errno()


@kernel
def _place_by_kernel(
    t: PlaceTarget, first: int, end: int, source: int, scratch: NDArray[np.int64]
) -> tuple[int, int]:
    """Place missing pages by userfaultfd; return (how many were missing, an error or 0)."""
    new = signed(0)
    page = first
    while page < end:
        at = source + (page - first) * PAGE_SIZE if source != 0 else 0
        done, failure = place_once(t, page, end - page, at, scratch)
        if failure == 0 or done > 0:
            behind = page + done // PAGE_SIZE
            new += _arrived(t, page, behind, scratch)
            page = behind
        elif failure == EEXIST:
            new += _arrived(t, page, page + 1, scratch)
            _count(t, DUPLICATES, 1)
            wake(t, page, scratch)
            page += 1
        elif failure != EAGAIN:  # on EAGAIN the address space was changing: try again
            return new, failure
    return new, 0


@kernel
def _place_by_hand(
    t: PlaceTarget, first: int, end: int, source: int, scratch: NDArray[np.int64]
) -> int:
    """Place pages by the software mechanism: whoever turns the status byte copies the page."""
    # SAFETY: [first, end) are pages of the guest, whose memory is at `memory_at` and outlives the
    # handler; only who has turned a page's status to PLACING writes it.
    status = t.status.ctypes.data
    new = signed(0)
    for page in range(first, end):
        if turn_byte(status, page, MISSING, PLACING) == 0:
            if turn_byte(status, page, REQUESTED, PLACING) == 0:
                _count(t, DUPLICATES, 1)
                continue
            stamp_arrival(t, page, monotonic_ns(scratch))
        if source != 0:  # a missing page has been discarded and reads as zero
            c_memmove(
                t.memory_at + page * PAGE_SIZE, source + (page - first) * PAGE_SIZE, PAGE_SIZE
            )
        swap_byte(status, page, PRESENT)
        swap_byte(t.presence.ctypes.data, page, 1)
        new += 1
    # A vCPU publishes the page that it wants and then looks at the map again. Here the map is
    # written first: so at least one of the two sees what the other has done.
    for vcpu in range(len(t.vcpus)):
        wanted = peek_word(t.vcpus[vcpu] + 8 * VCPU_WANTED)
        if first <= wanted < end:
            signal(scratch, peek_word(t.vcpus[vcpu] + 8 * VCPU_WAKE_FD))
    return new


@kernel
def place_run(
    t: PlaceTarget, first: int, count: int, source: int, counter: int, scratch: NDArray[np.int64]
) -> int:
    """Place those of these pages that are missing.

    Args:
        t: Where to.
        first: The first page's number.
        count: Pages.
        source: Address of the first one's contents; 0 for zeros.
        counter: Number of the control word that counts pages placed: PULLED or PUSHED.
        scratch: int64[SCRATCH_WORDS] of the calling thread.

    Returns:
        An error's number or 0.
    """
    end = first + count
    page = first
    while page < end:
        if peek_byte(t.status.ctypes.data, page) == PRESENT:
            _count(t, DUPLICATES, 1)
            page += 1
            continue
        behind = page + 1
        while behind < end and peek_byte(t.status.ctypes.data, behind) != PRESENT:
            behind += 1
        at = source + (page - first) * PAGE_SIZE if source != 0 else 0
        failure = 0
        if t.uffd >= 0:
            new, failure = _place_by_kernel(t, page, behind, at, scratch)
        else:
            new = _place_by_hand(t, page, behind, at, scratch)
        _count(t, counter, new)
        _count_down(t, new, scratch)
        if failure != 0:
            return failure
        page = behind
    return 0


@kernel
def place_extents(
    t: PlaceTarget, extents: NDArray[np.int64], source: int, scratch: NDArray[np.int64]
) -> int:
    """Place extents for a bulk receiver, with contents that lie side by side.

    Args:
        t: Where to.
        extents: int64[n], each first | count << 32, checked against the guest.
        source: Address of the first page's contents; 0 if all are zero.
        scratch: int64[SCRATCH_WORDS] of the calling thread.

    Returns:
        An error's number or 0.
    """
    # SAFETY: the caller has checked the extents against the guest, and holds as many pages at
    # `source` as they have.
    at = source
    for i in range(len(extents)):
        first, count = first_of(extents[i]), count_of(extents[i])
        failure = place_run(t, first, count, at, PUSHED, scratch)
        if failure != 0:
            return failure
        if source != 0:
            at += count * PAGE_SIZE
    return 0


@kernel
def discard(base: int, missing: NDArray[np.uint8], written: NDArray[np.uint8]) -> int:
    """Give every run of missing pages that has a written one back to the system.

    Args:
        base: Address of guest memory.
        missing: uint8[n_pages], 0 or 1.
        written: uint8[n_pages], 0 or 1.

    Returns:
        An error's number or 0.
    """
    # SAFETY: both arrays have a byte a page of the memory that begins at `base`; words are read
    # only where eight bytes are left.
    n = len(missing)
    marks, holds = missing.ctypes.data, written.ctypes.data
    page = signed(0)
    while page < n:
        # Eight pages at once where a word is aligned: most of memory usually needs nothing.
        if (
            ((marks + page) | (holds + page)) & 7 == 0
            and page + 8 <= n
            and peek_word(marks + page) & peek_word(holds + page) == 0
        ):
            page += 8
            continue
        if missing[page] == 0 or written[page] == 0:
            page += 1
            continue
        first = page
        while page < n and missing[page] != 0:
            page += 1
        if c_madvise(base + first * PAGE_SIZE, (page - first) * PAGE_SIZE, MADV_DONTNEED) != 0:
            return errno()
    return 0
