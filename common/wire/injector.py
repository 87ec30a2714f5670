"""Carrying injected faults out: the process, its connections, the bytes on them.

One `Injector` a session. The session says where it is (`hit`), its connections say what is about to
leave and what has come (`link_policy.Tap`).
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

from pageferry.common.inject import Action, Injection, Plan
from pageferry.common.timeline import Timeline
from pageferry.common.wire import channel
from pageferry.common.wire.pacing import Pacer

_Buffers = Sequence[bytes | memoryview]


# In a process of its own, since this one stands still. It looks whether that is still its parent: a
# process that has been killed is not continued, nor is another one that has got its number.
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
    """Does at each point what `plan` has for it. Any thread may hit a point, or use a connection.

    slow_down: how this agent sends at a rate (bytes/s) from now on; None: it reads at it.
    """

    def __init__(
        self, plan: Plan, timeline: Timeline, slow_down: Callable[[float], None] | None = None
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

    def hit(self, point: str) -> None:
        """The session has come to this point."""
        with self._lock:
            due = self._plan.due(point)
        for injection in due:
            self._timeline.log("injected", fault=str(injection))
            self._do(injection)

    def hit_share(self, share: float) -> bool:
        """That share (0 to 1) of the missing pages has moved; whether there are points left."""
        for percent in self._plan.shares():
            if share * 100 >= percent:
                self.hit(f"postcopy-{percent}%")
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
            channel.reset(sock)

    def close(self) -> None:
        """The session is over: nobody waits for a slow reader any more."""
        self._over.set()

    # -- what connections tell ----------------------------------------------------------------

    def opened(self, sock: socket.socket) -> None:
        """A connection of the session."""
        self._sockets.add(sock)

    def outgoing(self, sock: socket.socket, frame: _Buffers) -> _Buffers:
        """A whole frame is about to be sent; what is to be sent of it, or instead."""
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
        """That many bytes of pages were read; returns when the next ones may be."""
        seconds = self._reading.reserve(n, time.monotonic())
        if seconds > 0:
            self._over.wait(min(seconds, threading.TIMEOUT_MAX))


def _flip(frame: _Buffers, offset: int) -> list[bytes | memoryview]:
    """The frame with one bit changed in what follows its head, `offset` bytes on (it wraps)."""
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
    """The first `size` bytes, and the rest."""
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
    """Stop this whole process, compiled threads and guest too, and let it go on after a while."""
    tenths, rest = divmod(seconds, 0.1)
    subprocess.run(  # noqa: S603 - our own process id and numbers
        ["/bin/sh", "-c", _STALL, "stall", str(os.getpid()), f"{tenths:.0f}", f"{rest:f}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )


def send_now(sock: socket.socket, buffers: Sequence[bytes | memoryview]) -> None:
    """Send as much of it as the kernel takes at once."""
    with contextlib.suppress(OSError):
        for buffer in buffers:
            sock.send(buffer)
