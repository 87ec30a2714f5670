"""One direction of the userspace link: a queue before a rate, then a delay line. Compiled.

It does what the kernel's netem does, as a function of virtual time: a packet that comes at `now` is
lost or not, starts when those before it have left, takes its size over the rate to leave, and is
due a delay later. So a packet's fate is known when it comes, and what waits is two queues in order
of time: one for packets with a delay, one for those that overtake by having none.

Packets come from a TUN device and go into another one, each after the kernel's virtio_net_hdr, so
that a device with offloads hands over up to 64 KiB in one piece. The rate is charged with what such
a piece would be on a wire, the headers of all its segments counted.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pageferry.common.guest.jit import kernel
from pageferry.common.guest.native import fence, monotonic_ns, signed
from pageferry.common.guest.syscalls import POLLIN, c_ppoll, c_read, c_write, pollfd

# Words of the settings, which Python writes: bytes/s (0: no rate), ns, chances out of 2**32.
RATE, DELAY_NS, JITTER_NS, LOSS, REORDER, QUEUE_BYTES, OUTAGE, STOP = range(8)
SETTINGS: Final = 8

# Words of the state, which the kernel writes.
FREE_NS, LAST_DUE, LAST_OVERTAKING, RNG = range(4)
FORWARDED, LOST, QUEUE_DROPS, OUTAGE_DROPS, OVERFLOWS, OVERTAKERS, REFUSED = range(4, 11)
STATE: Final = 16
COUNTERS: Final = {
    "forwarded": FORWARDED,
    "lost": LOST,
    "queue_full": QUEUE_DROPS,
    "outage": OUTAGE_DROPS,
    "overflow": OVERFLOWS,
    "overtook": OVERTAKERS,
}

NONE, DELAYED, OVERTAKING = -1, 0, 1

# Words of a lane's own state; entries and bytes are counted from its beginning on.
FIRST, NEXT, HEAD = range(3)
ENTRY_WORDS: Final = 3  # due, place, length

CHANCES: Final = 2**32
HEADER: Final = 10  # struct virtio_net_hdr
FRAME_HEADER: Final = 14  # of Ethernet, as the kernel's shapers count it
MOST: Final = 65536 + 256  # bytes of a packet with its header
_BATCH: Final = 64
_SECOND: Final = 1_000_000_000
_TIMESPEC: Final = 2  # words of the scratch array; the clock uses the first two
_POLLFDS: Final = 4
_IDLE_NS: Final = _SECOND


class Lane(NamedTuple):
    """A queue of packets in order of time.

    Attributes:
        words: int64[4]: FIRST, NEXT and HEAD.
        entries: int64[entries * ENTRY_WORDS]: due time, place and length of each packet, a ring.
        room: uint8[room]: the packets, each with its virtio_net_hdr, a ring.
    """

    words: NDArray[np.int64]
    entries: NDArray[np.int64]
    room: NDArray[np.uint8]


class Wire(NamedTuple):
    """Everything that belongs to one direction.

    Attributes:
        settings: int64[SETTINGS], which Python writes.
        state: int64[STATE], which the wire's thread writes.
        delayed: Packets with a delay.
        overtaking: Packets without one.
        spill: uint8[MOST], for packets that there is no place for.
        scratch: int64[16], for system calls.
    """

    settings: NDArray[np.int64]
    state: NDArray[np.int64]
    delayed: Lane
    overtaking: Lane
    spill: NDArray[np.uint8]
    scratch: NDArray[np.int64]


def make_lane(entries: int, room: int) -> Lane:
    """Make an empty lane. Memory that is never used is never touched.

    Args:
        entries: How many packets it holds.
        room: How many bytes it holds; at least MOST.

    Returns:
        The lane.
    """
    return Lane(
        np.zeros(4, np.int64), np.zeros(entries * ENTRY_WORDS, np.int64), np.zeros(room, np.uint8)
    )


def make_wire(entries: int, room: int, seed: int) -> Wire:
    """Make a wire without a shape.

    Args:
        entries: Most packets that are under way with a delay.
        room: Most bytes of those packets.
        seed: Seed of its random numbers.

    Returns:
        The wire; its lane for packets that overtake has a sixteenth of this, at least 4 packets.
    """
    state = np.zeros(STATE, np.int64)
    state[RNG] = (seed * 2 + 1) & (2**62 - 1)
    settings = np.zeros(SETTINGS, np.int64)
    few = make_lane(max(entries // 16, 4), max(room // 16, 2 * MOST))
    spill, scratch = np.zeros(MOST, np.uint8), np.zeros(16, np.int64)
    return Wire(settings, state, make_lane(entries, room), few, spill, scratch)


@kernel
def chance(state: NDArray[np.int64]) -> int:
    """Draw a number evenly: the upper half of xorshift64 of Marsaglia (2003).

    Args:
        state: int64[STATE]; its word RNG is changed.

    Returns:
        From 0 to 2**32 - 1.
    """
    x = np.uint64(state[RNG])
    x ^= x << np.uint64(13)
    x ^= x >> np.uint64(7)
    x ^= x << np.uint64(17)
    state[RNG] = signed(x)
    return signed(x >> np.uint64(32))


@kernel
def fate(
    settings: NDArray[np.int64], state: NDArray[np.int64], now: int, size: int
) -> tuple[int, int]:
    """Decide what becomes of a packet, and book its time on the link.

    Args:
        settings: int64[SETTINGS] of the wire.
        state: int64[STATE] of the wire; changed.
        now: When the packet comes, CLOCK_MONOTONIC ns.
        size: Its bytes on the wire.

    Returns:
        When it is due (ns of the same clock), and its lane: DELAYED, OVERTAKING, or NONE for a
        packet that is lost.
    """
    if settings[OUTAGE] != 0:
        state[OUTAGE_DROPS] += 1
        return 0, NONE
    if settings[LOSS] != 0 and chance(state) < settings[LOSS]:
        state[LOST] += 1
        return 0, NONE
    rate = settings[RATE]
    leaves = now
    if rate != 0:
        start = max(now, state[FREE_NS])
        if float(start - now) * rate / _SECOND + size > settings[QUEUE_BYTES]:
            state[QUEUE_DROPS] += 1
            return 0, NONE
        leaves = start + size * _SECOND // rate
        state[FREE_NS] = leaves
    if settings[REORDER] != 0 and chance(state) < settings[REORDER]:
        state[LAST_OVERTAKING] = max(leaves, state[LAST_OVERTAKING])
        return state[LAST_OVERTAKING], OVERTAKING
    return _in_order(settings, state, leaves), DELAYED


@kernel
def _in_order(settings: NDArray[np.int64], state: NDArray[np.int64], leaves: int) -> int:
    """Compute when a packet is due: after earlier ones, whatever jitter or a shorter delay say."""
    due = leaves + settings[DELAY_NS]
    if settings[JITTER_NS] != 0:
        due += (2 * settings[JITTER_NS] * (chance(state) >> 16) >> 16) - settings[JITTER_NS]
    state[LAST_DUE] = max(due, state[LAST_DUE])
    return state[LAST_DUE]  # type: ignore[no-any-return]


@kernel
def next_slot(lane: Lane) -> int:
    """Find the place for the next packet, whatever its size.

    Args:
        lane: The lane; its HEAD may skip the rest of the ring.

    Returns:
        Where the packet goes in the lane's room, with MOST bytes free from there on; -1 where the
        lane is full.
    """
    first, following, head = lane.words[FIRST], lane.words[NEXT], lane.words[HEAD]
    if (following - first) * ENTRY_WORDS >= len(lane.entries):
        return -1
    room = len(lane.room)
    if head % room + MOST > room:
        head += room - head % room
    if following > first:
        oldest = lane.entries[(first * ENTRY_WORDS) % len(lane.entries) + 1]
        if head + MOST - oldest > room:
            return -1
    lane.words[HEAD] = head
    return head % room  # type: ignore[no-any-return]


@kernel
def push(lane: Lane, due: int, length: int) -> None:
    """Take in the packet that was put where `next_slot` said.

    Args:
        lane: The lane; changed.
        due: When the packet is due, CLOCK_MONOTONIC ns; not before the last one.
        length: Its bytes, virtio_net_hdr included.
    """
    at = (lane.words[NEXT] * ENTRY_WORDS) % len(lane.entries)
    lane.entries[at] = due
    lane.entries[at + 1] = lane.words[HEAD]
    lane.entries[at + 2] = length
    lane.words[HEAD] += length
    lane.words[NEXT] += 1


@kernel
def next_due(lane: Lane, never: int) -> int:
    """Look up when the first packet of a lane is due.

    Args:
        lane: The lane.
        never: What to return where it is empty.

    Returns:
        CLOCK_MONOTONIC ns, or `never`.
    """
    if lane.words[FIRST] == lane.words[NEXT]:
        return never
    return lane.entries[(lane.words[FIRST] * ENTRY_WORDS) % len(lane.entries)]  # type: ignore[no-any-return]


@kernel
def wire_size(packet: NDArray[np.uint8], at: int, length: int) -> int:
    """Compute the bytes of a packet on a wire, with the headers of all its segments.

    Args:
        packet: uint8[n], the memory that the packet is in.
        at: Where it begins, with its virtio_net_hdr.
        length: Its bytes, virtio_net_hdr included.

    Returns:
        Bytes with Ethernet headers, which shapers count.
    """
    body = length - HEADER
    segment = signed(packet[at + 4]) | signed(packet[at + 5]) << 8
    if packet[at + 1] == 0 or segment == 0:
        return body + FRAME_HEADER
    transport = signed(packet[at + 6]) | signed(packet[at + 7]) << 8
    headers = transport + (signed(packet[at + HEADER + transport + 12]) >> 4) * 4  # TCP's
    segments = max((body - headers + segment - 1) // segment, 1)
    return body + (segments - 1) * headers + segments * FRAME_HEADER


@kernel
def _take_in(w: Wire, in_fd: int) -> int:
    """Read what has come, at most a batch; return how many packets that was."""
    for taken in range(_BATCH):
        at = next_slot(w.delayed)
        if at < 0:  # what can't be kept is read and dropped
            if c_read(in_fd, w.spill.ctypes.data, MOST) <= HEADER:
                return taken
            w.state[OVERFLOWS] += 1
            continue
        length = c_read(in_fd, w.delayed.room.ctypes.data + at, MOST)
        if length <= HEADER:
            return taken
        size = wire_size(w.delayed.room, at, length)
        due, lane = fate(w.settings, w.state, monotonic_ns(w.scratch), size)
        if lane == OVERTAKING:
            _overtake(w, due, at, length)
        elif lane == DELAYED:
            push(w.delayed, due, length)
    return _BATCH


@kernel
def _overtake(w: Wire, due: int, at: int, length: int) -> None:
    """Move a packet over to the other lane; where that is full, it keeps its place."""
    there = next_slot(w.overtaking)
    if there < 0:
        push(w.delayed, _in_order(w.settings, w.state, due), length)
        return
    for i in range(length):
        w.overtaking.room[there + i] = w.delayed.room[at + i]
    push(w.overtaking, due, length)
    w.state[OVERTAKERS] += 1


@kernel
def _deliver(w: Wire, lane: Lane, out_fd: int) -> None:
    """Write what is due."""
    now = monotonic_ns(w.scratch)
    while lane.words[FIRST] != lane.words[NEXT]:
        at = (lane.words[FIRST] * ENTRY_WORDS) % len(lane.entries)
        if lane.entries[at] > now:
            now = monotonic_ns(w.scratch)
            if lane.entries[at] > now:
                return
        length = lane.entries[at + 2]
        data = lane.room.ctypes.data + lane.entries[at + 1] % len(lane.room)
        if c_write(out_fd, data, length) == length:
            w.state[FORWARDED] += 1
        else:
            w.state[REFUSED] += 1  # the other device is down: the packet is gone
        lane.words[FIRST] += 1


@kernel
def forward(w: Wire, in_fd: int, out_fd: int, wake_fd: int) -> None:
    """Run the wire until STOP.

    Args:
        w: The wire.
        in_fd: TUN device to read from; must not block.
        out_fd: TUN device to write to; must not block.
        wake_fd: eventfd that ends a wait, so that STOP is seen.
    """
    scratch = w.scratch
    base = scratch.ctypes.data
    while True:
        fence()
        if w.settings[STOP] != 0:
            return
        taken = _take_in(w, in_fd)
        _deliver(w, w.overtaking, out_fd)
        _deliver(w, w.delayed, out_fd)
        if taken == _BATCH:
            continue
        now = monotonic_ns(scratch)
        due = min(next_due(w.delayed, now + _IDLE_NS), next_due(w.overtaking, now + _IDLE_NS))
        wait = min(due - now, _IDLE_NS)
        if wait <= 0:
            continue
        scratch[_TIMESPEC], scratch[_TIMESPEC + 1] = wait // _SECOND, wait % _SECOND
        scratch[_POLLFDS] = pollfd(in_fd, POLLIN)
        scratch[_POLLFDS + 1] = pollfd(wake_fd, POLLIN)
        woken = c_ppoll(base + 8 * _POLLFDS, 2, base + 8 * _TIMESPEC, 0)
        if woken > 0 and scratch[_POLLFDS + 1] >> 48 != 0:
            c_read(wake_fd, base + 8 * _POLLFDS, 8)
