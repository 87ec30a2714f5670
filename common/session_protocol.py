"""What both ends of a session have in common, without IO: the hand-over, and recovery within it.

`source_agent.protocol` and `dest_agent.protocol` are the two ends. A driver with sockets, threads
and clocks hands them every message and every broken connection, tells them what it is about to do
before it does it, and carries out what they answer. Two of them can therefore talk to each other in
memory, which is how they are tested. Times are seconds of any one clock of the driver's.
"""

from __future__ import annotations

from typing import Final

from pageferry.common.handover import Event, Handover, Role, State
from pageferry.common.recovery import Proof, Recovery


class SessionProtocol:
    """One end's place in the hand-over and in recovery, stepped together.

    Args:
        role: Which end this is.
        limit_s: Seconds that an outage of post-copy may last.
        attempt: Which attempt the session's first connections belong to.
    """

    def __init__(self, role: Role, limit_s: float, attempt: int = 0) -> None:
        self.handover: Final = Handover(role)
        self.recovery = Recovery(limit_s, attempt)

    @property
    def attempt(self) -> int:
        """The number of the attempt whose connections count."""
        return self.recovery.attempt

    def broke(self, attempt: int, now_s: float) -> bool:
        """Note in post-copy that a connection of `attempt` is broken.

        Returns:
            Whether that is news. Everything of that attempt is then to be closed.
        """
        if not self.recovery.broke(attempt, now_s):
            return False
        self.handover.step(Event.CONNECTION_LOST)
        return True

    def joined(self, attempt: int) -> None:
        """Take the control connection of `attempt` for the present one."""
        self.recovery.joined(attempt)
        self.handover.step(Event.RECOVER)

    def stands(self, attempt: int) -> bool:
        """Note that all connections of `attempt` stand; return whether the outage is over."""
        self.recovery.stands(attempt)
        return self._recovered()

    def proved(self, attempt: int, proof: Proof) -> bool:
        """Note that `attempt` has been seen to work; return whether the outage is over."""
        self.recovery.proved(attempt, proof)
        return self._recovered()

    def _recovered(self) -> bool:
        if self.recovery.out or self.handover.state is not State.POSTCOPY_RECOVER:
            return False
        self.handover.step(Event.RECOVERED)
        return True

    def gave_up(self) -> None:
        """End an outage that has lasted as long as it may, or that has no sense any more."""
        self.recovery.gave_up()
        self.handover.step(Event.GAVE_UP)
