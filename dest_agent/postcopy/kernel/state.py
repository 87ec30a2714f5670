"""What the fault handler's compiled code works on: arrays, and one record of control words."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pageferry.common.urgent.control import FIRST_OWN, control_dtype, word_of
from pageferry.common.urgent.kernels import urgent_kernels
from pageferry.common.wire import frames

MAX_EXTENTS: Final = frames.MAX_EXTENTS

kernel = urgent_kernels(Path(__file__).parent)


# -- control words: a class for each writer --------------------------------------------------------


class _ByPython:
    stop: int
    command: int  # counts up each time that the other words are to be looked at
    wanted_socket: int  # -1: none
    trace_tail: int  # records that Python has taken
    anew: int  # 1: the command is about the socket, from a new start; 0: about the other words
    attempt: int  # of `wanted_socket`
    armed: int  # 1: pages may come
    settled: int  # 1: pages that come are placed no more


class _Constant:
    uffd: int  # -1: the software mechanism
    fault_fd: int  # readable when there is a fault: the userfaultfd, or the guest's eventfd
    wake_fd: int  # Python calls the handler
    done_fd: int  # the handler has done what Python asked
    event_fd: int  # nothing is missing any more, or the connection failed
    memory_at: int  # address of guest memory
    prepage: int  # neighbours asked for with each page; negative: adaptive
    checked: int  # 1: frames have checksums, in both directions


class _ByHandler:
    applied: int  # the last command that it has carried out
    socket: int
    failure: int  # why it dropped the connection, a code
    failure_errno: int
    filled: int  # bytes in the inbox
    parsed: int  # so many of them are done with
    part: int  # of a frame: which one comes next
    entries: int
    is_zero: int
    frame_pages: int
    extent: int  # the extent of the table that is being received
    next_page: int
    extent_left: int
    out_filled: int  # bytes of requests
    out_sent: int
    trace_head: int
    sent_ns: int  # when something was sent last
    asked: int  # probes that were sent on this connection
    answered: int  # so many of them have been answered


class _Counters:
    faults: int
    zero_fills: int  # faults on pages that were never missing, only never written
    requests: int
    pulled: int  # pages placed from the urgent socket
    untraced: int  # faults whose record found no room
    received_bytes: int
    sent_bytes: int


class _ByThreads:
    """Words that several threads write, atomically."""

    pushed: int  # pages placed by bulk receivers
    duplicates: int  # pages that came and were there already
    missing_count: int


class FaultControl(_ByPython, _Constant, _ByHandler, _Counters, _ByThreads):
    """The handler's control words, as mypy sees the record."""


FAULT_CONTROL: Final = control_dtype(_ByPython, _Constant, _ByHandler, _Counters, _ByThreads)

# Numbers of words that are counted up atomically.
PULLED: Final = word_of(FAULT_CONTROL, "pulled")
PUSHED: Final = word_of(FAULT_CONTROL, "pushed")
DUPLICATES: Final = word_of(FAULT_CONTROL, "duplicates")
MISSING_COUNT: Final = word_of(FAULT_CONTROL, "missing_count")

# -- codes of `failure`, beside those of `common.urgent.control` -----------------------------------
UNPLACEABLE: Final = FIRST_OWN  # the kernel would not take a page: `failure_errno`
UNREAD: Final = FIRST_OWN + 1  # the peer does not read our requests

# -- status of a page ------------------------------------------------------------------------------
PRESENT: Final = 0
MISSING: Final = 1
REQUESTED: Final = 2
PLACING: Final = 3  # software only: somebody is copying it

INBOX_WORDS: Final = 32 * 1024  # 256 KiB
OUTBOX_WORDS: Final = 8 * 1024  # 4096 requests; a blocked thread has one outstanding at most
PENDING_SLOTS: Final = 128
PENDING_WORDS: Final = 3  # page, when its fault was read, when it was placed (0: not yet)
TRACE_RECORDS: Final = 1 << 16
TRACE_WORDS: Final = 4  # t_ns, latency_ns, page, vCPU (-1: not known)
STREAMS: Final = 4  # sequential streams that are told apart in a vCPU's region
STREAM_WORDS: Final = 3  # last fault, end of what was asked for, window
READ_FAULTS: Final = 16

# Words of a scratch array, of which each thread has its own.
VALUE: Final = 3  # `signal` uses it
POLLFDS: Final = 4
TIMEOUT: Final = 8
ARGUMENT: Final = 16
MESSAGES: Final = 32
SCRATCH_WORDS: Final = MESSAGES + 4 * READ_FAULTS


class PlaceTarget(NamedTuple):
    """What placing a page takes; few plain parts, as bulk receivers pass it with each frame.

    The arrays outlive everyone who places pages: kernels take their addresses.
    """

    uffd: int  # -1: the software mechanism
    memory_at: int  # address of guest memory
    event_fd: int
    words: NDArray[np.int64]  # the memory of the handler's control record: counted atomically
    status: NDArray[np.uint8]  # [n_pages]
    presence: NDArray[np.uint8]  # [n_pages], the map that vCPUs look at; [0] with userfaultfd
    vcpus: NDArray[np.int64]  # [vcpus], addresses of their control words
    pending: NDArray[np.int64]  # [PENDING_SLOTS * PENDING_WORDS], page -1: free


class FaultArrays(NamedTuple):
    """Everything that the kernels here work on.

    The arrays outlive the thread: kernels take their addresses.
    """

    ctl: FaultControl
    target: PlaceTarget
    status: NDArray[np.uint8]  # [n_pages]
    presence: NDArray[np.uint8]  # [n_pages], the map that vCPUs look at; [0] with userfaultfd
    vcpus: NDArray[np.int64]  # [vcpus], addresses of their control words
    regions: NDArray[np.int64]  # [vcpus + 1], where each vCPU's pages begin, and n_pages
    seen: NDArray[np.int64]  # [vcpus], the last wanted page that was read of each
    streams: NDArray[np.int64]  # [vcpus * STREAMS * STREAM_WORDS]
    oldest: NDArray[np.int64]  # [vcpus], the stream that goes next
    pending: NDArray[np.int64]  # [PENDING_SLOTS * PENDING_WORDS], page -1: free
    trace: NDArray[np.int64]  # [TRACE_RECORDS * TRACE_WORDS], a ring
    outbox: NDArray[np.int64]  # [OUTBOX_WORDS]
    inbox: NDArray[np.int64]  # [INBOX_WORDS]
    table: NDArray[np.int64]  # [MAX_EXTENTS], extents of the frame that is being received
    scratch: NDArray[np.int64]  # [SCRATCH_WORDS], the handler's


def new_thread_scratch() -> NDArray[np.int64]:
    """Return a scratch array for one thread.

    Returns:
        int64[SCRATCH_WORDS], zeros.
    """
    return np.zeros(SCRATCH_WORDS, np.int64)
