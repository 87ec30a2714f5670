"""Carrying out injected faults: on the process, its connections, the bytes on them.

One `Injector` per session. The session says where it is (`reached`), its connections say what is
about to leave and what has come (`link_policy.Tap`).
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Final

from pageferry.common.inject import Action, FaultPlan, Injection
from pageferry.common.timeline import Timeline
from pageferry.common.wire import tcp
from pageferry.common.wire.pacing import Pacer

_Buffers = Sequence[bytes | memoryview]


# In a process of its own, since this one stands still. It looks whether this one is still its
# parent: a process that was killed is not continued, nor is another one that got its number.
_STALL: Final = """
kill -STOP "$1"
sleep "$3"
left=$2
while [ "$left" -gt 0 ]; do
  sleep 0.1
  left=$((left - 1))
  read -r _ _ _ parent _ < "/proc/$$/stat"
  [ "$parent" = "$1" ] || exit
done
kill -CONT "$1"
"""


class Injector:
    """Does what `plan` has for each point. Any thread may reach a point, or use a connection.

    Args:
        plan: What is due; each fault of it once.
        timeline: Gets an event for each fault.
        slow_down: Makes this agent send at a rate (bytes/s; infinity: no limit) from now on; None:
            it reads at that rate instead.
    """

    def __init__(
        self, plan: FaultPlan, timeline: Timeline, slow_down: Callable[[float], None] | None = None
    ) -> None:
        self._plan = plan
        self._timeline = timeline
        self._slow_down = slow_down
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._cut_after: int | None = None
        self._corrupt_at: int | None = None
        self._reading = Pacer(math.inf)
        self._over = threading.Event()

    def reached(self, point: str) -> None:
        """Carry out what is due at a point that the session has come to.

        Args:
            point: Its name, with numbers in place of N.
        """
        with self._lock:
            due = self._plan.due(point)
        for injection in due:
            self._timeline.log("injected", fault=str(injection))
            self._do(injection)

    def reached_share(self, share: float) -> bool:
        """Reach the points of post-copy up to a share of the missing pages.

        Args:
            share: That has moved, 0 to 1.

        Returns:
            Whether there are such points left.
        """
        for percent in self._plan.shares():
            if share * 100 >= percent:
                self.reached(f"postcopy-{percent}%")
        return bool(self._plan.shares())

    def _do(self, injection: Injection) -> None:
        amount = injection.amount
        if injection.action is Action.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        elif injection.action is Action.STALL:
            _stop_for(amount or 0.0)
        elif injection.action is Action.CUT and amount is None:
            self._cut()
        elif injection.action is Action.CUT:
            self._cut_after = int(amount or 0)
        elif injection.action is Action.CORRUPT:
            self._corrupt_at = int(amount or 0)
        elif self._slow_down is not None:
            self._slow_down(amount or math.inf)
        else:
            self._reading.rate = amount or math.inf

    def _cut(self) -> None:
        for sock in list(self._sockets):
            tcp.reset(sock)

    def close(self) -> None:
        """End the session: nobody waits for a slow reader any more."""
        self._over.set()

    # -- what connections tell ----------------------------------------------------------------

    def opened(self, sock: socket.socket) -> None:
        """Remember a connection, to cut it when that is due.

        Args:
            sock: Held by weak reference.
        """
        self._sockets.add(sock)

    def outgoing(self, sock: socket.socket, frame: _Buffers) -> _Buffers:
        """Corrupt a frame, or cut the connections in its midst, where that is due.

        Args:
            sock: On which it is sent.
            frame: Head first; one without a second part is not corrupted.

        Returns:
            What is left to send.
        """
        with self._lock:
            if self._corrupt_at is not None and len(frame) > 1:
                frame = _flip(frame, self._corrupt_at)
                self._corrupt_at = None
            if self._cut_after is None:
                return frame
            size = sum(len(buffer) for buffer in frame)
            if size <= self._cut_after:
                self._cut_after -= size
                return frame
            first, rest = _split(frame, self._cut_after)
            self._cut_after = None
        send_now(sock, first)
        self._cut()
        return rest

    def incoming(self, n: int) -> None:
        """Wait as a slow reader would, or until `close`.

        Args:
            n: Bytes that were read.
        """
        seconds = self._reading.reserve(n, time.monotonic())
        if seconds > 0:
            self._over.wait(min(seconds, threading.TIMEOUT_MAX))


def _flip(frame: _Buffers, offset: int) -> list[bytes | memoryview]:
    """Flip one bit of what follows a frame's head, `offset` bytes on (it wraps); return a copy."""
    out = list(frame)
    offset %= sum(len(buffer) for buffer in out[1:])
    for index in range(1, len(out)):
        if offset < len(out[index]):
            copy = bytearray(out[index])
            copy[offset] ^= 1
            out[index] = bytes(copy)
            break
        offset -= len(out[index])
    return out


def _split(frame: _Buffers, size: int) -> tuple[list[bytes | memoryview], list[bytes | memoryview]]:
    """Return the first `size` bytes, and the rest."""
    first: list[bytes | memoryview] = []
    rest: list[bytes | memoryview] = []
    for buffer in frame:
        part = buffer[:size]
        first.append(part)
        size -= len(part)
        if len(part) < len(buffer):
            rest.append(buffer[len(part) :])
    return first, rest


def _stop_for(seconds: float) -> None:
    """Stop this whole process, compiled threads and guest too; it goes on after a while."""
    tenths, rest = divmod(seconds, 0.1)
    subprocess.run(  # noqa: S603 - our own process id and numbers
        ["/bin/sh", "-c", _STALL, "stall", str(os.getpid()), f"{tenths:.0f}", f"{rest:f}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )


def send_now(sock: socket.socket, buffers: Sequence[bytes | memoryview]) -> None:
    """Send as much as the kernel takes at once; say nothing of what fails.

    Args:
        sock: May be blocking; it then waits.
        buffers: In order.
    """
    with contextlib.suppress(OSError):
        for buffer in buffers:
            sock.send(buffer)
