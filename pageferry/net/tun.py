"""The userspace link: a TUN device in either namespace, and a wire between them in each direction.

It is for kernels without netem. The wires are compiled threads of the process that makes the link.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import math
import os
import struct
import threading
from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np

from pageferry.common.errors import PageferryError
from pageferry.common.process.scheduling import ask_for_short_slices
from pageferry.common.process.threads import WatchedThread
from pageferry.net import wire
from pageferry.net.enter import inside
from pageferry.net.namespaces import DEVICE, ENDS, End, namespace
from pageferry.net.options import Offloads
from pageferry.net.shape import Direction, Shape
from pageferry.net.tc import bring_up

_TUNSETIFF, _TUNSETOFFLOAD = 0x400454CA, 0x400454D0
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
_CHECKSUM, _TSO4, _TSO6 = 0x01, 0x02, 0x04
_PR_SET_TIMERSLACK, _NICENESS = 29, -15
_NODE: Final = "/dev/net/tun"

ENTRIES: Final = 1 << 17
ROOM: Final = 128 << 20  # bytes under way in each direction: 20 ms at 6 GB/s
OFFLOAD_RATE: Final = 62.5e6  # bytes/s: a piece of 64 KiB takes a millisecond


def offloaded(asked: Offloads, shapes: list[Shape]) -> bool:
    """Decide whether packets may come in pieces of up to 64 KiB.

    Not where single packets count: one loss would take forty of them, and at a low rate a piece
    would hold up the others for as long as it takes.

    Args:
        asked: What the user asked for; `on` and `off` are obeyed.
        shapes: All that the link ever is.

    Returns:
        Whether the devices are to offer offloads.
    """
    if asked != "auto":
        return asked == "on"
    directions = [each for shape in shapes for each in (shape.forward, shape.back)]
    return not any(each.loss or each.reorder or each.rate < OFFLOAD_RATE for each in directions)


def _open_device(*, offloads: bool) -> int:
    """Make a TUN device in the present namespace; it is gone when its descriptor is closed."""
    fd = os.open(_NODE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        flags = _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), flags))
        fcntl.ioctl(fd, _TUNSETOFFLOAD, _CHECKSUM | _TSO4 | _TSO6 if offloads else 0)
    except BaseException:
        os.close(fd)
        raise
    return fd


def settings_of(direction: Direction, shape: Shape, *, outage: bool) -> list[int]:
    """Compute the settings of a wire, in the order of the words of `wire`.

    Args:
        direction: What the wire's direction is.
        shape: The link that it is a direction of; sizes the queue.
        outage: Whether nothing gets through.

    Returns:
        All words but the last, STOP.
    """
    return [
        0 if math.isinf(direction.rate) else int(direction.rate),
        round(direction.delay * 1e9),
        round(direction.jitter * 1e9),
        round(direction.loss * wire.CHANCES),
        round(direction.reorder * wire.CHANCES),
        shape.queue_bytes(direction),
        int(outage),
    ]


class TunLink:
    """The userspace link between two namespaces, for as long as this process keeps it open.

    Making it raises `PageferryError` where a device can't be made or brought up.

    Args:
        name: Name of the network, whose namespaces must be there.
        shape: What the link is at first.
        tell: Called with what has ended a wire, on that wire's thread; None is nobody.
        offloads: Whether packets come in pieces of up to 64 KiB.
        seed: Seed of loss, reordering and jitter.
    """

    def __init__(
        self,
        name: str,
        shape: Shape,
        tell: Callable[[PageferryError], None] | None = None,
        *,
        offloads: bool,
        seed: int = 1,
    ) -> None:
        self._fds: list[int] = []
        self._tell = tell
        self._threads: list[WatchedThread] = []
        self._wires = [wire.make_wire(ENTRIES, ROOM, seed + 7919 * i) for i in range(2)]
        try:
            for end in ENDS:
                self._fds.append(self._device(name, end, offloads=offloads))
            self._wake = [self._eventfd() for _ in self._wires]
            self._compile()
            self.apply(shape, outage=False)
            self._start()
        except OSError as error:
            self.close()
            raise PageferryError(f"can't make the userspace link: {error}") from None
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _device(name: str, end: End, *, offloads: bool) -> int:
        def make() -> int:
            fd = _open_device(offloads=offloads)
            bring_up(DEVICE, end)
            return fd

        return inside(namespace(name, end), make)

    def _eventfd(self) -> int:
        fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._fds.append(fd)
        return fd

    def _compile(self) -> None:
        """Compile the wire now, and not when the first packet waits: run one that has stopped."""
        idle = wire.make_wire(2, 2 * wire.MOST, 1)
        idle.settings[wire.STOP] = 1
        wire.forward(idle, -1, -1, -1)

    def _start(self) -> None:
        source, dest = self._fds[:2]
        for i, (one, other) in enumerate(((source, dest), (dest, source))):
            work = partial(_run, self._wires[i], one, other, self._wake[i])
            thread = WatchedThread(work, f"wire {i}", self._tell)
            thread.start()
            self._threads.append(thread)

    def apply(self, shape: Shape, *, outage: bool) -> None:
        """Make the link this from now on; what is under way keeps the time that it was given.

        Args:
            shape: What both directions are.
            outage: Whether nothing gets through.
        """
        for each, direction in zip(self._wires, (shape.forward, shape.back), strict=True):
            words = settings_of(direction, shape, outage=outage)
            each.settings[: wire.STOP] = np.array(words, np.int64)

    def counters(self) -> dict[str, dict[str, int]]:
        """Count the packets (or pieces) of either direction so far, by what became of them.

        Returns:
            Counts by the words of `wire.COUNTERS`, for `forward` and `back`.
        """
        return {
            name: {word: int(each.state[at]) for word, at in wire.COUNTERS.items()}
            for name, each in zip(("forward", "back"), self._wires, strict=True)
        }

    def close(self) -> None:
        """Stop the wires and close the devices, which are then gone; can be called again."""
        for each in self._wires:
            each.settings[wire.STOP] = 1
        for fd in self._wake if self._threads else ():
            os.eventfd_write(fd, 1)
        for thread in self._threads:
            thread.join()
        self._threads = []
        for fd in self._fds:
            with contextlib.suppress(OSError):
                os.close(fd)
        self._fds = []


def _run(one: wire.Wire, in_fd: int, out_fd: int, wake_fd: int) -> None:
    """Run a wire, with as little delay from the scheduler as can be had."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    ask_for_short_slices()
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
    wire.forward(one, in_fd, out_fd, wake_fd)
