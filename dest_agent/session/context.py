"""What every phase of a session uses, and what a prepared guest consists of."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pageferry.common.guest.machine import Guest
from pageferry.common.guest.vcpu import vcpus_cpu_s
from pageferry.common.timeline import Timeline
from pageferry.common.wire import messages
from pageferry.common.wire.injector import Injector
from pageferry.dest_agent.guest_registry import Reservation
from pageferry.dest_agent.guest_thread import GuestThread
from pageferry.dest_agent.postcopy.monitor import Postcopy
from pageferry.dest_agent.precopy.page_placer import GuestPlacer
from pageferry.dest_agent.protocol import DestProtocol
from pageferry.dest_agent.session.inbox import DestControl

if TYPE_CHECKING:
    from pageferry.dest_agent.session.stream import PageStream


@dataclass(frozen=True, slots=True)
class DestContext:
    """What lasts as long as the session.

    Attributes:
        protocol: What may be said and done next.
        control: The control connection of the present attempt, and the queue of all that happens.
        thread: Where everything that blocks on the guest runs.
        timeline: The destination's events.
        say: Takes one line for people.
        injector: None without injected faults.
        reservation: Who takes over the guest, if it stays.
    """

    protocol: DestProtocol
    control: DestControl
    thread: GuestThread
    timeline: Timeline
    say: Callable[[str], None]
    injector: Injector | None
    reservation: Reservation

    def reached(self, point: str) -> None:
        """Tell injected faults that a point has been reached.

        Args:
            point: One of `common.inject.POINTS` of the destination, with a number for N.
        """
        if self.injector is not None:
            self.injector.reached(point)


class CpuTime:
    """CPU seconds of this process without its vCPUs, from construction to `mark`.

    Attributes:
        used_s: As of the last `mark`; 0 before.
    """

    def __init__(self) -> None:
        self._start_s = time.process_time() - vcpus_cpu_s()
        self.used_s = 0.0

    def mark(self) -> None:
        """Count up to now."""
        self.used_s = time.process_time() - self._start_s - vcpus_cpu_s()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A guest whose memory is there, whose vCPUs wait, and whose pages may come.

    Attributes:
        setup: As the source sent it.
        guest: Paused until the commit is carried out; closed by the session unless it is kept.
        placer: What is known about its memory.
        stream: The connections over which pages come.
        postcopy: None if no switch to post-copy was set up.
        cpu: CPU time from here to the resume, in post-copy until no page is missing.
    """

    setup: messages.Setup
    guest: Guest
    placer: GuestPlacer
    stream: PageStream
    postcopy: Postcopy | None
    cpu: CpuTime
