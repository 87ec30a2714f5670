"""What a vCPU thread and the rest of the world share: arrays, and one array of control words.

Each word has one writer. The controlling thread writes requests, adds one to `SEQUENCE` and signals
the vCPU's eventfd; the vCPU looks between two quanta, does as asked, copies the sequence number to
`ACKNOWLEDGED` and signals `DONE_FD`. Aligned 64-bit stores are atomic on every machine that numba
compiles for; fences and system calls keep them in order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pageferry.common.guest.native import SCRATCH_WORDS
from pageferry.common.guest.pace import Pace

# -- written by the controlling thread ------------------------------------------------------------
SEQUENCE: Final = 0
WANT: Final = 1  # one of the states below
HOLD: Final = 2
LOG_EPOCH: Final = 3  # its lowest bit is the dirty log's buffer to write to
DRAIN: Final = 4  # number of the requested drain
TARGET: Final = 5  # run to exactly this step, flat out, and pause there; -1: none
PRESENCE: Final = 6  # address of uint8[n_pages], 0: every page is present
GAP_RESET: Final = 7
THROTTLE: Final = 8  # share of time not to run, in millionths
DIRTY_NS: Final = 9  # the least time from one dirtied page to the next; 0: no limit
# 0, or its last heartbeat of real running (ns; 1: it never ran): from here on it only runs to be
# compared with another guest.
REPLAY: Final = 10
# -- constant -------------------------------------------------------------------------------------
WAKE_FD: Final = 16
DONE_FD: Final = 17
FAULT_FD: Final = 18
PERIOD_NS: Final = 19
BURST: Final = 20
PERIOD_STEPS: Final = 21
# -- written by the vCPU --------------------------------------------------------------------------
ACKNOWLEDGED: Final = 32
STATE: Final = 33
ACTIVE_LOG: Final = 34  # first word of the dirty log's active buffer
DRAINED: Final = 35  # number of the last completed drain
DRAIN_CURSOR: Final = 36  # next cache set to look at
WANTED: Final = 37  # the page that the vCPU waits for, -1: none
FIRST_NS: Final = 38
LAST_NS: Final = 39
GAP_NS: Final = 40
GAP_START_NS: Final = 41
GAP_END_NS: Final = 42
GAPS_RESET: Final = 43
PAUSED_NS: Final = 44
CPU_NS: Final = 45
QUANTUM: Final = 46  # steps
QUANTUM_START: Final = 47  # steps at its start
SCHEDULE_NS: Final = 48  # when the schedule's step 0 was due
QUANTUM_NS: Final = 49  # when it began
QUANTUM_DIRTIED: Final = 50  # DIRTIED at its start
SLOWED_STEPS: Final = 51  # the most steps of a quantum while slowed
THROTTLED_UNTIL_NS: Final = 52
LIMITED_UNTIL_NS: Final = 53
CLOCK_NS: Final = 54  # up to when the schedule has been followed
# -- counters of the vCPU -------------------------------------------------------------------------
DIRTIED: Final = 56  # pages whose mask went from zero to something
HITS: Final = 57
MISSES: Final = 58
WRITE_BACKS: Final = 59
SPILLS: Final = 60
DRAINED_LINES: Final = 61
QUANTA: Final = 62
SLOWED_NS: Final = 63  # slept because it was throttled or dirtied too much
CONTROL_WORDS: Final = 64

NEW: Final = 0
PAUSED: Final = 1
RUNNING: Final = 2
STOPPED: Final = 3

# -- registers: what travels in a snapshot --------------------------------------------------------
STEPS: Final = 0
SUM: Final = 1  # sum of everything that was read
STATE_WORDS: Final = 8

PARAM_WORDS: Final = 16


class VcpuArrays(NamedTuple):
    """Everything that a vCPU's kernels work on. `ways` = 0: no cache."""

    ctl: NDArray[np.int64]  # [CONTROL_WORDS]
    state: NDArray[np.uint64]  # [STATE_WORDS]
    params: NDArray[np.int64]  # [PARAM_WORDS], the workload's constants
    table: NDArray[np.uint64]  # the workload's own, of any length
    words: NDArray[np.uint64]  # all of guest memory
    log: NDArray[np.uint64]  # [2 * n_pages], both buffers of the dirty log
    counts: NDArray[np.uint64]  # [2 * n_pages], lines written and written back; or empty
    entries: NDArray[np.uint64]  # [sets * stride], see cache.py
    masks: NDArray[np.uint64]  # [sets * ways], dirty 64-byte parts of longer lines, by slot
    arena: NDArray[np.uint64]  # the cache's lines by slot; guest memory itself without a cache
    scratch: NDArray[np.int64]  # [SCRATCH_WORDS]
    ways: int
    stride: int  # entries from one set to the next, at least `ways`
    sets: int  # a power of two
    shift: int  # log2 of the 64-byte parts of a cache line


def aligned(words: int, dtype: type[np.uint64] | type[np.int64]) -> NDArray[np.uint64]:
    """Make an array that shares no 128 bytes, so no cache line, with anything else.

    Args:
        words: How many 8-byte words.
        dtype: Of the array.

    Returns:
        Zeroed, and of that type, whatever the annotation says.
    """
    raw = np.zeros(words * 8 + 256, np.uint8)
    skip = -raw.ctypes.data % 128
    return raw[skip : skip + words * 8].view(dtype)


def witnessed(path: Path, vcpus: int) -> NDArray[np.int64]:
    """Make control words in a file that others may watch as vCPUs run.

    A row used as `out` of `new_vcpu_control` shows each heartbeat, whatever becomes of this
    process.

    Args:
        path: The file, which is created or overwritten.
        vcpus: How many rows.

    Returns:
        int64[vcpus, CONTROL_WORDS], zero, mapped to the file.
    """
    return np.asarray(np.memmap(path, np.int64, "w+", shape=(vcpus, CONTROL_WORDS)))


def new_vcpu_control(
    pace: Pace, wake_fd: int, done_fd: int, fault_fd: int, *, out: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Make the control words of a vCPU that has not started.

    Args:
        pace: Its schedule.
        wake_fd: Eventfd that wakes it.
        done_fd: Eventfd that it signals when it has done as asked; shared by the guest's vCPUs.
        fault_fd: Eventfd that it signals when it needs a missing page; shared by the guest's vCPUs.
        out: int64[CONTROL_WORDS], zero, to be used; None: a new array.

    Returns:
        int64[CONTROL_WORDS]: paused, no target, no page wanted.
    """
    ctl = aligned(CONTROL_WORDS, np.int64).view(np.int64) if out is None else out
    ctl[WANT] = PAUSED
    ctl[TARGET] = ctl[WANTED] = -1
    ctl[WAKE_FD], ctl[DONE_FD], ctl[FAULT_FD] = wake_fd, done_fd, fault_fd
    ctl[PERIOD_NS], ctl[BURST], ctl[PERIOD_STEPS] = pace.period_ns, pace.burst, pace.steps
    ctl[QUANTUM] = 64
    ctl[SLOWED_STEPS] = 1
    return ctl


def new_scratch() -> NDArray[np.int64]:
    """Make the scratch array through which a thread's libc calls in `native` exchange data.

    Returns:
        int64[SCRATCH_WORDS], for one thread only.
    """
    return aligned(SCRATCH_WORDS, np.int64).view(np.int64)
