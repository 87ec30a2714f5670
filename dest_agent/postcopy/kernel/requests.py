"""What the handler sends on the urgent socket: requests, probes, answers to probes."""

from __future__ import annotations

from typing import Final

from pageferry.common.guest.native import monotonic_ns, signed
from pageferry.common.guest.syscalls import EAGAIN, EINTR, MSG_DONTWAIT, MSG_NOSIGNAL, c_send, errno
from pageferry.common.urgent.control import BROKEN
from pageferry.common.urgent.kernels import (
    HEADER_WORDS,
    IDLE_NS,
    NUMBER,
    TRAILER_WORDS,
    put_bodyless,
    report_failure,
)
from pageferry.common.wire.frames import FrameType
from pageferry.dest_agent.postcopy.kernel.state import OUTBOX_WORDS, FaultArrays, kernel

_PROBE: Final = int(FrameType.PROBE)
_SAFETY_NET_NS: Final = 1_000_000_000


@kernel
def fail(f: FaultArrays, code: int, number: int) -> None:
    """Drop the connection and tell Python.

    Args:
        f: Without a connection from here on.
        code: Of `common.urgent.control` or `state`.
        number: The system's error number, or 0.
    """
    f.ctl.socket = -1
    report_failure(f.ctl, f.scratch, code, number)


@kernel
def queue(f: FaultArrays, kind: int, entries: int, value: int) -> bool:
    """Queue a frame without a body, to be sent by the next `flush`.

    Args:
        f: Its outbox is appended to.
        kind: A `FrameType`.
        entries: 16 bits: neighbours of a request, or a probe's number.
        value: 32 bits: the page of a request, or a probe's attempt.

    Returns:
        False if there is no room.
    """
    at = f.ctl.out_filled >> 3
    if at + HEADER_WORDS + TRAILER_WORDS > OUTBOX_WORDS:
        return False
    f.ctl.out_filled = 8 * put_bodyless(f.outbox, at, kind, f.ctl.checked, entries, value)
    return True


@kernel
def keep_open(f: FaultArrays) -> int:
    """Queue a probe if nothing has been sent for a while.

    Args:
        f: With or without a connection.

    Returns:
        In how many ns to call this again, at the latest.
    """
    ctl = f.ctl
    if ctl.socket < 0:
        return signed(_SAFETY_NET_NS)
    left = ctl.sent_ns + IDLE_NS - monotonic_ns(f.scratch)
    if left > 0:
        return signed(left)
    # While earlier frames can't be sent, a probe would say nothing more.
    if ctl.out_filled == ctl.out_sent:
        ctl.asked += 1
        queue(f, _PROBE, ctl.asked & NUMBER, ctl.attempt)
    return signed(IDLE_NS)


@kernel
def flush(f: FaultArrays) -> None:
    """Send what is queued, as much as the socket takes.

    Args:
        f: Loses its connection if that is broken.
    """
    ctl = f.ctl
    if ctl.socket < 0 or ctl.out_sent == ctl.out_filled:
        return
    # SAFETY: [out_sent, out_filled) lies in the outbox, which outlives the thread.
    n = c_send(
        ctl.socket,
        f.outbox.ctypes.data + ctl.out_sent,
        ctl.out_filled - ctl.out_sent,
        MSG_DONTWAIT | MSG_NOSIGNAL,
    )
    if n < 0:
        number = errno()
        if number not in (EAGAIN, EINTR):
            fail(f, BROKEN, number)
        return
    ctl.out_sent += n
    ctl.sent_bytes += n
    ctl.sent_ns = monotonic_ns(f.scratch)
    if ctl.out_sent == ctl.out_filled:
        ctl.out_sent = ctl.out_filled = 0
