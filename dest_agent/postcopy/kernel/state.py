"""What the fault handler's compiled code works on: arrays, and one array of control words."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pageferry.common.guest.kernels import kernels_of
from pageferry.common.wire import frames, probes

MAX_EXTENTS: Final = frames.MAX_EXTENTS

kernel = kernels_of(Path(__file__).parent, Path(frames.__file__), Path(probes.__file__))

# -- control words ---------------------------------------------------------------------------------
# written by Python
STOP: Final = 0
COMMAND: Final = 1  # one more each time that WANTED_SOCKET is to be taken over
WANTED_SOCKET: Final = 2  # -1: none
TRACE_TAIL: Final = 3  # records that Python has taken
ANEW: Final = 4  # 1: the COMMAND is about the socket, which begins anew; 0: about the other words
ATTEMPT: Final = 5  # of WANTED_SOCKET
ARMED: Final = 6  # 1: pages may come
SETTLED: Final = 7  # 1: pages that come are placed no more
# constant
UFFD: Final = 8  # -1: the software mechanism
FAULT_FD: Final = 9  # readable when there is a fault: the userfaultfd, or the guest's eventfd
WAKE_FD: Final = 10  # Python calls the handler
DONE_FD: Final = 11  # the handler has done what Python asked
EVENT_FD: Final = 12  # nothing is missing any more, or the connection failed
BASE: Final = 13  # address of guest memory
PREPAGE: Final = 14  # neighbours asked for with each page; -1: adaptive
CHECKED: Final = 15  # 1: frames have checksums, in both directions
# written by the handler
OBEYED: Final = 24  # the last COMMAND that it has carried out
SOCKET: Final = 25
FAILURE: Final = 26  # why it dropped the connection, one of the codes below
FAILURE_ERRNO: Final = 27
FILLED: Final = 28  # bytes in the inbox
PARSED: Final = 29  # of which so many are done with
PART: Final = 30  # of a frame, that comes next
ENTRIES: Final = 31
IS_ZERO: Final = 32
FRAME_PAGES: Final = 33
EXTENT: Final = 34  # the extent of the table that is being received
NEXT_PAGE: Final = 35
EXTENT_LEFT: Final = 36
OUT_FILLED: Final = 37  # bytes of requests
OUT_SENT: Final = 38
TRACE_HEAD: Final = 39
SENT_NS: Final = 40  # when something was sent last
ASKED: Final = 41  # probes that were sent on this connection
ANSWERED: Final = 42  # of which so many have been answered
# counters
FAULTS: Final = 48
ZERO_FILLS: Final = 49  # faults on pages that were never missing, only never written
REQUESTS: Final = 50
PULLED: Final = 51  # pages placed from the urgent socket
UNTRACED: Final = 52  # faults whose record found no room
RECEIVED_BYTES: Final = 53
SENT_BYTES: Final = 54
PUSHED: Final = 56  # pages placed by bulk receivers; the next three by several threads, atomic
DUPLICATES: Final = 57  # pages that came and were there
MISSING_COUNT: Final = 58
CONTROL_WORDS: Final = 64

# -- codes of FAILURE ------------------------------------------------------------------------------
ENDED: Final = 1  # the peer closed the connection
BROKEN: Final = 2  # the system says why in FAILURE_ERRNO
ILLEGAL: Final = 3  # the peer sent something that is not legal here
UNPLACEABLE: Final = 4  # the kernel would not take a page: FAILURE_ERRNO
UNREAD: Final = 5  # the peer does not read our requests
CORRUPT: Final = 6  # a frame's checksum is wrong

# -- status of a page ------------------------------------------------------------------------------
PRESENT: Final = 0
MISSING: Final = 1
REQUESTED: Final = 2
PLACING: Final = 3  # software only: somebody is copying it

INBOX_WORDS: Final = 32 * 1024  # 256 KiB
OUTBOX_WORDS: Final = 8 * 1024  # 4096 requests; no more than one a blocked thread is outstanding
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


class FaultArrays(NamedTuple):
    """Everything that the kernels here work on."""

    ctl: NDArray[np.int64]  # [CONTROL_WORDS]
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


def new_scratch() -> NDArray[np.int64]:
    """int64[SCRATCH_WORDS], for one thread."""
    return np.zeros(SCRATCH_WORDS, np.int64)
