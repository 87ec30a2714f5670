"""What both ends of a session have in common, without IO: the hand-over, and recovery within it.

`source_agent.protocol` and `dest_agent.protocol` are the two ends. A driver with sockets, threads
and clocks hands them every message and every broken connection, tells them what it is about to do
before it does it, and carries out what they answer. Two of them can therefore talk to each other in
memory, and that is how they are tested. Times are seconds of any one clock of the driver's.
"""

from __future__ import annotations

from typing import Final

from pageferry.common.handover import Event, Handover, Role, State
from pageferry.common.recovery import Proof, Recovery


class SessionProtocol:
    """One end's place in the hand-over and in recovery, stepped together.

    Args:
        role: Which end this is.
        limit_s: How long an outage of post-copy may last, seconds.
        attempt: The attempt that the session's first connections belong to.
    """

    def __init__(self, role: Role, limit_s: float, attempt: int = 0) -> None:
        self.handover: Final = Handover(role)
        self.recovery = Recovery(limit_s, attempt)

    @property
    def attempt(self) -> int:
        """The number of the attempt whose connections count."""
        return self.recovery.attempt

    def broke(self, attempt: int, now_s: float) -> bool:
        """Note in post-copy that a connection is broken.

        Args:
            attempt: The attempt that the connection belongs to.
            now_s: The present time, of the driver's clock.

        Returns:
            Whether that is news. Every connection of that attempt is then to be closed.
        """
        if not self.recovery.broke(attempt, now_s):
            return False
        self.handover.step(Event.CONNECTION_LOST)
        return True

    def joined(self, attempt: int) -> None:
        """Make an attempt the present one: its control connection stands.

        Args:
            attempt: Its number, not below the present one.

        Raises:
            LocalProtocolError: The attempt is older than the present one, or nothing is broken.
        """
        self.recovery.joined(attempt)
        self.handover.step(Event.RECOVER)

    def stands(self, attempt: int) -> bool:
        """Note that all connections of an attempt stand.

        Args:
            attempt: Its number.

        Returns:
            Whether the outage is over and pages flow again.
        """
        self.recovery.stands(attempt)
        return self._recovered()

    def proved(self, attempt: int, proof: Proof) -> bool:
        """Note that something of an attempt has been seen to work.

        Args:
            attempt: Its number; older ones are ignored.
            proof: What was seen.

        Returns:
            Whether the outage is over and pages flow again.
        """
        self.recovery.proved(attempt, proof)
        return self._recovered()

    def _recovered(self) -> bool:
        """Step the hand-over where the outage is over; return whether it was stepped."""
        if self.recovery.out or self.handover.state is not State.POSTCOPY_RECOVER:
            return False
        self.handover.step(Event.RECOVERED)
        return True

    def gave_up(self) -> None:
        """End an outage that has lasted as long as it may, or that there is no point in prolonging.

        Raises:
            LocalProtocolError: There is nothing to give up in this state.
        """
        self.recovery.gave_up()
        self.handover.step(Event.GAVE_UP)
