"""What every phase of one session uses, and what a guest that is prepared consists of."""

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
from pageferry.dest_agent.guest_keeper import Place
from pageferry.dest_agent.guest_thread import GuestThread
from pageferry.dest_agent.postcopy.monitor import Postcopy
from pageferry.dest_agent.precopy.page_placer import GuestPlacer
from pageferry.dest_agent.protocol import DestProtocol
from pageferry.dest_agent.session.inbox import Control

if TYPE_CHECKING:
    from pageferry.dest_agent.session.stream import Stream


@dataclass(frozen=True, slots=True)
class Context:
    """What is there for as long as the session.

    Attributes:
        say: One line for people.
        place: Whom the guest is left to, where it stays.
    """

    protocol: DestProtocol
    control: Control
    thread: GuestThread
    timeline: Timeline
    say: Callable[[str], None]
    injector: Injector | None
    place: Place

    def hit(self, point: str) -> None:
        """Tell injected faults that a point has been reached."""
        if self.injector is not None:
            self.injector.hit(point)


class CpuTime:
    """CPU seconds of this process, vCPUs not counted, from its making to `mark`."""

    def __init__(self) -> None:
        self._start_s = time.process_time() - vcpus_cpu_s()
        self.used_s = 0.0

    def mark(self) -> None:
        """Count up to now."""
        self.used_s = time.process_time() - self._start_s - vcpus_cpu_s()


@dataclass(frozen=True, slots=True)
class Prepared:
    """The guest's memory is there, its vCPUs wait, and pages may come.

    Attributes:
        placer: What is known of its memory.
        stream: The connections over which pages come.
        postcopy: None where a switch was not set up.
    """

    setup: messages.Setup
    guest: Guest
    placer: GuestPlacer
    stream: Stream
    postcopy: Postcopy | None
    cpu: CpuTime
