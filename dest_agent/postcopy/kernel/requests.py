"""What the handler says to the source on the urgent socket: requests, probes, answers to probes."""

from __future__ import annotations

from typing import Final

from pageferry.common.guest.checksum import xxh3_64
from pageferry.common.guest.native import fence, monotonic_ns, signal, signed
from pageferry.common.guest.syscalls import EAGAIN, EINTR, MSG_DONTWAIT, MSG_NOSIGNAL, c_send, errno
from pageferry.common.wire import header
from pageferry.common.wire.frames import FrameType
from pageferry.common.wire.probes import IDLE_S, MAX_NUMBER
from pageferry.dest_agent.postcopy.kernel.state import (
    ASKED,
    ATTEMPT,
    BROKEN,
    CHECKED,
    EVENT_FD,
    FAILURE,
    FAILURE_ERRNO,
    OUT_FILLED,
    OUT_SENT,
    OUTBOX_WORDS,
    SENT_BYTES,
    SENT_NS,
    SOCKET,
    FaultArrays,
    kernel,
)

_PROBE: Final = int(FrameType.PROBE)
_FLAGS: Final = header.CHECKED << 8
_IDLE_NS: Final = int(IDLE_S * 1e9)
_NUMBER: Final = MAX_NUMBER
_SAFETY_NET_NS: Final = 1_000_000_000


@kernel
def fail(f: FaultArrays, code: int, number: int) -> None:
    """Drop the connection and tell Python. code: see `arrays`; number: the system's, or 0."""
    f.ctl[FAILURE_ERRNO] = number
    f.ctl[SOCKET] = -1
    fence()
    f.ctl[FAILURE] = code
    signal(f.scratch, f.ctl[EVENT_FD])


@kernel
def queue(f: FaultArrays, kind: int, entries: int, value: int) -> bool:
    """A frame without a body goes out at the next `flush`. False: there is no room."""
    ctl = f.ctl
    if ctl[OUT_FILLED] + 24 > 8 * OUTBOX_WORDS:
        return False
    at = ctl[OUT_FILLED] >> 3
    f.outbox[at] = kind | (entries << 16) | (value << 32)
    f.outbox[at + 1] = 0
    ctl[OUT_FILLED] += 16
    if ctl[CHECKED] != 0:
        f.outbox[at] |= _FLAGS
        f.outbox[at + 2] = signed(xxh3_64(f.outbox.ctypes.data + 8 * at, 16))
        ctl[OUT_FILLED] += 8
    return True


@kernel
def keep_open(f: FaultArrays) -> int:
    """Queue a probe if nothing has gone for a while; how long that takes from now on, ns."""
    ctl = f.ctl
    if ctl[SOCKET] < 0:
        return signed(_SAFETY_NET_NS)
    left = ctl[SENT_NS] + _IDLE_NS - monotonic_ns(f.scratch)
    if left > 0:
        return signed(left)
    # Where the last ones could not be sent it would not say more.
    if ctl[OUT_FILLED] == ctl[OUT_SENT]:
        ctl[ASKED] += 1
        queue(f, _PROBE, ctl[ASKED] & _NUMBER, ctl[ATTEMPT])
    return signed(_IDLE_NS)


@kernel
def flush(f: FaultArrays) -> None:
    """Send what is queued, as much as the socket takes."""
    ctl = f.ctl
    if ctl[SOCKET] < 0 or ctl[OUT_SENT] == ctl[OUT_FILLED]:
        return
    n = c_send(
        ctl[SOCKET],
        f.outbox.ctypes.data + ctl[OUT_SENT],
        ctl[OUT_FILLED] - ctl[OUT_SENT],
        MSG_DONTWAIT | MSG_NOSIGNAL,
    )
    if n < 0:
        number = errno()
        if number not in (EAGAIN, EINTR):
            fail(f, BROKEN, number)
        return
    ctl[OUT_SENT] += n
    ctl[SENT_BYTES] += n
    ctl[SENT_NS] = monotonic_ns(f.scratch)
    if ctl[OUT_SENT] == ctl[OUT_FILLED]:
        ctl[OUT_SENT] = ctl[OUT_FILLED] = 0
