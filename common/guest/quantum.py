"""What a vCPU does between two quanta, compiled: Python never runs there.

A workload's kernel is a loop around `begin_quantum`, which returns when the vCPU should run, with
the number of steps to run next: it obeys requests, drains the cache in slices, keeps the schedule,
waits for missing pages, and records heartbeats.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.guest.cache import drain_slice
from pageferry.common.guest.control import (
    ACKNOWLEDGED,
    ACTIVE_LOG,
    BURST,
    CLOCK_NS,
    CPU_NS,
    DIRTIED,
    DIRTY_NS,
    DONE_FD,
    DRAIN,
    DRAIN_CURSOR,
    DRAINED,
    FAULT_FD,
    FIRST_NS,
    GAP_END_NS,
    GAP_NS,
    GAP_RESET,
    GAP_START_NS,
    GAPS_RESET,
    LAST_NS,
    LIMITED_UNTIL_NS,
    LOG_EPOCH,
    PAUSED,
    PAUSED_NS,
    PERIOD_NS,
    PERIOD_STEPS,
    PRESENCE,
    QUANTA,
    QUANTUM,
    QUANTUM_DIRTIED,
    QUANTUM_NS,
    QUANTUM_START,
    RUNNING,
    SCHEDULE_NS,
    SEQUENCE,
    SLOWED_NS,
    SLOWED_STEPS,
    STATE,
    STEPS,
    STOPPED,
    TARGET,
    THROTTLE,
    THROTTLED_UNTIL_NS,
    WAKE_FD,
    WANT,
    WANTED,
    VcpuArrays,
)
from pageferry.common.guest.jit import kernel
from pageferry.common.guest.native import (
    fence,
    monotonic_ns,
    peek_byte,
    signal,
    signed,
    thread_cpu_ns,
    wait_for,
)
from pageferry.common.guest.pace import MAX_LAG_NS, due_at, steps_due

_QUANTUM_NS: Final = 500_000  # what a quantum should take: a request may have to wait so long
_MIN_STEPS: Final = 16
_MAX_STEPS: Final = 1 << 22
_DRAIN_NS: Final = 300_000
_BEAT_NS: Final = 1_000_000  # a paced vCPU leaves a heartbeat at least this often
_NAP_NS: Final = 250_000  # and sleeps at least this long, or it would wake for single steps
_CYCLE_NS: Final = 5_000_000  # a slowed vCPU runs and sleeps within this: its gaps are as long
_CREDIT_NS: Final = 2_000_000  # of what it slept too long, so much may be made up for
_MILLION: Final = 1_000_000
_IDLE_NS: Final = 1_000_000_000  # paused: only a request ends the wait; this is a safety net


@kernel
def _adapt(m: VcpuArrays) -> int:
    """Size the next quantum by the processor time (ns) that the last one took; return that time."""
    ctl = m.ctl
    cpu_ns = thread_cpu_ns(m.scratch)
    spent = cpu_ns - ctl[CPU_NS]
    ctl[CPU_NS] = cpu_ns
    steps = signed(m.state[STEPS]) - ctl[QUANTUM_START]
    if steps < ctl[QUANTUM] and spent < _QUANTUM_NS:
        return signed(spent)  # a short one says nothing
    size = steps * _QUANTUM_NS // max(spent, 1)
    size = min(max(size, ctl[QUANTUM] // 2), ctl[QUANTUM] * 2)
    ctl[QUANTUM] = min(max(size, _MIN_STEPS), _MAX_STEPS)
    return signed(spent)


@kernel
def _acknowledge(m: VcpuArrays, sequence: int) -> None:
    ctl = m.ctl
    fence()
    if ctl[ACKNOWLEDGED] != sequence:
        ctl[ACKNOWLEDGED] = sequence
        signal(m.scratch, ctl[DONE_FD])


@kernel
def _drain(m: VcpuArrays) -> bool:
    """Do a slice of the requested drain, if any; return whether there is more to do."""
    ctl = m.ctl
    wanted = ctl[DRAIN]
    if ctl[DRAINED] == wanted:
        return False
    if not drain_slice(m, monotonic_ns(m.scratch) + _DRAIN_NS):
        return True
    ctl[DRAIN_CURSOR] = 0
    fence()
    ctl[DRAINED] = wanted
    signal(m.scratch, ctl[DONE_FD])
    return False


@kernel
def _beat(ctl: NDArray[np.int64], now: int) -> None:
    gap = now - ctl[LAST_NS]
    if gap > ctl[GAP_NS]:
        ctl[GAP_NS] = gap
        ctl[GAP_START_NS] = ctl[LAST_NS]
        ctl[GAP_END_NS] = now
    ctl[LAST_NS] = now


@kernel
def _begin_running(m: VcpuArrays, now: int) -> None:
    """Restart the schedule here: what was due while the guest was paused is not owed."""
    ctl = m.ctl
    ctl[FIRST_NS] = ctl[LAST_NS] = ctl[CLOCK_NS] = now
    if ctl[PERIOD_STEPS] > 0:
        due = due_at(signed(m.state[STEPS]), ctl[PERIOD_NS], ctl[BURST], ctl[PERIOD_STEPS])
        ctl[SCHEDULE_NS] = now - due
    ctl[STATE] = RUNNING


@kernel
def _stop_running(m: VcpuArrays, state: int) -> None:
    """Enter the state paused or stopped."""
    ctl = m.ctl
    if ctl[STATE] == RUNNING:
        ctl[PAUSED_NS] = monotonic_ns(m.scratch)
    if ctl[STATE] != state:
        fence()
        ctl[STATE] = state
        signal(m.scratch, ctl[DONE_FD])


@kernel
def _page_is_missing(ctl: NDArray[np.int64]) -> bool:
    """Check whether the page that the last step needed is still missing."""
    presence = ctl[PRESENCE]
    if ctl[WANTED] >= 0 and (presence == 0 or peek_byte(presence, ctl[WANTED]) != 0):
        ctl[WANTED] = -1
    return bool(ctl[WANTED] >= 0)


@kernel
def _steps_allowed(m: VcpuArrays, now: int) -> int:
    """Return the next quantum's steps; zero or less: minus the ns until there are any to do."""
    ctl = m.ctl
    done = signed(m.state[STEPS])
    if ctl[TARGET] >= 0:
        return signed(min(ctl[QUANTUM], ctl[TARGET] - done))
    if ctl[PERIOD_STEPS] == 0:
        return signed(ctl[QUANTUM])
    next_ns = due_at(done, ctl[PERIOD_NS], ctl[BURST], ctl[PERIOD_STEPS])
    late = now - ctl[SCHEDULE_NS] - next_ns
    if late < 0:
        return signed(late)
    if late > MAX_LAG_NS:
        ctl[SCHEDULE_NS] += late - MAX_LAG_NS
    due = steps_due(now - ctl[SCHEDULE_NS], ctl[PERIOD_NS], ctl[BURST], ctl[PERIOD_STEPS])
    return signed(min(ctl[QUANTUM], due - done))


@kernel
def _slow_down(m: VcpuArrays, spent: int) -> None:
    """Set the time until which the quantum that has just ended keeps a slowed vCPU from running.

    A quantum takes its own time plus what the throttle adds; or the time its pages are allowed. If
    the vCPU slept too long before, it makes up for that, so that the shares come out right. The
    next quantum and its sleep should fill one cycle: the last one tells how many steps that is.

    spent: the quantum's processor time. On a busy host it takes longer than that, which counts, or
    the guest would be throttled by less than asked; but it counts as at most twice as long, or a
    vCPU that lost its processor for some milliseconds would sleep for a hundred times that.
    """
    ctl = m.ctl
    throttle, page_ns = ctl[THROTTLE], ctl[DIRTY_NS]
    began = ctl[QUANTUM_NS]
    if (throttle == 0 and page_ns == 0) or began == 0:
        return
    ctl[QUANTUM_NS] = 0
    ran = min(monotonic_ns(m.scratch) - began, 2 * spent)
    by_throttle = ran * _MILLION // (_MILLION - throttle)
    by_pages = (ctl[DIRTIED] - ctl[QUANTUM_DIRTIED]) * page_ns
    if throttle > 0:
        ctl[THROTTLED_UNTIL_NS] = max(ctl[THROTTLED_UNTIL_NS], began - _CREDIT_NS) + by_throttle
    if page_ns > 0:
        ctl[LIMITED_UNTIL_NS] = max(ctl[LIMITED_UNTIL_NS], began - _CREDIT_NS) + by_pages
    steps = signed(m.state[STEPS]) - ctl[QUANTUM_START]
    fitting = max(steps, 1) * _CYCLE_NS // max(by_throttle, by_pages, 1)
    ctl[SLOWED_STEPS] = max(min(fitting, 2 * ctl[SLOWED_STEPS], ctl[QUANTUM]), 1)


@kernel
def _slow_clock(ctl: NDArray[np.int64], now: int) -> None:
    """Stop the schedule of a throttled vCPU for the throttle's share of the time.

    A rate stands for a guest whose processor is busy with it. A guest that keeps to its rate in a
    hundredth of its time, as ours could, would not notice a throttle by 99 %.
    """
    if ctl[THROTTLE] > 0:
        ctl[SCHEDULE_NS] += (now - ctl[CLOCK_NS]) * ctl[THROTTLE] // _MILLION
    ctl[CLOCK_NS] = now


@kernel
def _slowed_for(ctl: NDArray[np.int64], now: int) -> int:
    """Return for how many ns the vCPU must not run yet; 0: it may, or it is not worth a sleep."""
    if ctl[TARGET] >= 0:
        return 0
    left = 0
    if ctl[THROTTLE] > 0:
        left = ctl[THROTTLED_UNTIL_NS] - now
    if ctl[DIRTY_NS] > 0:
        left = max(left, ctl[LIMITED_UNTIL_NS] - now)
    return signed(left) if left >= _NAP_NS else 0


@kernel
def page_missing(m: VcpuArrays, page: int) -> None:
    """Record that the step just given up needs a page, and signal whoever serves pages.

    Args:
        m: What the vCPU works on.
        page: The missing page's number.
    """
    ctl = m.ctl
    ctl[WANTED] = page
    fence()
    signal(m.scratch, ctl[FAULT_FD])


@kernel
def _begin(m: VcpuArrays, now: int, allowed: int) -> int:
    """Begin a quantum; return how many steps it may take."""
    ctl = m.ctl
    ctl[QUANTUM_START] = signed(m.state[STEPS])
    ctl[QUANTUM_NS] = now
    ctl[QUANTUM_DIRTIED] = ctl[DIRTIED]
    ctl[QUANTA] += 1
    if ctl[TARGET] < 0 and (ctl[THROTTLE] > 0 or ctl[DIRTY_NS] > 0):
        return signed(min(allowed, ctl[SLOWED_STEPS]))
    ctl[SLOWED_STEPS] = 1
    return allowed


@kernel
def _use_log(m: VcpuArrays) -> None:
    """Write to the requested buffer of the dirty log from now on."""
    ctl = m.ctl
    active = (ctl[LOG_EPOCH] & 1) * (len(m.log) // 2)
    if ctl[ACTIVE_LOG] != active:
        ctl[ACTIVE_LOG] = active
        if ctl[DIRTY_NS] > 0:  # every page is clean again: what a step dirties is unknown
            ctl[SLOWED_STEPS] = 1


@kernel
def _reset_gaps(m: VcpuArrays) -> None:
    """Forget the longest gap, if that was requested."""
    ctl = m.ctl
    if ctl[GAPS_RESET] != ctl[GAP_RESET]:
        ctl[GAPS_RESET] = ctl[GAP_RESET]
        ctl[GAP_NS] = ctl[GAP_START_NS] = ctl[GAP_END_NS] = 0
        ctl[LAST_NS] = monotonic_ns(m.scratch)


@kernel
def begin_quantum(m: VcpuArrays) -> int:
    """Obey requests, and sleep while the vCPU should not run.

    Args:
        m: What the vCPU works on.

    Returns:
        How many steps to run now; 0: the thread should end.
    """
    ctl = m.ctl
    _slow_down(m, _adapt(m))
    while True:
        fence()
        sequence = ctl[SEQUENCE]
        want = ctl[WANT]
        fence()
        _use_log(m)
        _reset_gaps(m)
        if want == STOPPED:
            _stop_running(m, STOPPED)
            _acknowledge(m, sequence)
            return 0
        draining = _drain(m)
        if want != RUNNING or signed(m.state[STEPS]) == ctl[TARGET]:
            _stop_running(m, PAUSED)
            _acknowledge(m, sequence)
            if not draining:
                wait_for(m.scratch, ctl[WAKE_FD], _IDLE_NS)
            continue
        now = monotonic_ns(m.scratch)
        if ctl[STATE] != RUNNING:
            _begin_running(m, now)
        _acknowledge(m, sequence)
        if _page_is_missing(ctl):
            if not draining:
                wait_for(m.scratch, ctl[WAKE_FD], _IDLE_NS)
            continue
        _slow_clock(ctl, now)
        slowed = _slowed_for(ctl, now)
        if slowed > 0:  # no heartbeat: it is a gap in the guest's progress
            if not draining:
                wait_for(m.scratch, ctl[WAKE_FD], slowed)
                ctl[SLOWED_NS] += monotonic_ns(m.scratch) - now
            continue
        _beat(ctl, now)
        allowed = _steps_allowed(m, now)
        if allowed > 0:
            return _begin(m, now, allowed)
        if not draining:
            wait_for(m.scratch, ctl[WAKE_FD], min(max(-allowed, _NAP_NS), _BEAT_NS))
