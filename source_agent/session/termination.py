"""A source that is asked to end: what a signal does, and what whoever sent it is told."""

from __future__ import annotations

import time
from typing import Final

from pageferry.common.handover import State
from pageferry.common.recovery import Recovery
from pageferry.common.termination import AGAIN, GIVEN_UP, SignalEscalation, SignalReply
from pageferry.common.units import format_time
from pageferry.source_agent.connection.connections import SourceConnections
from pageferry.source_agent.postcopy.supply import PageSupply

TOO_LATE: Final = "too late to cancel: the guest is being handed over, and that is seen through"
_FOLLOWS: Final = (State.POSTCOPY_ACTIVE, State.POSTCOPY_PAUSED, State.POSTCOPY_RECOVER)


class Ending:
    """What becomes of signals from the moment on at which it is too late to cancel.

    Args:
        connections: Say when the destination was heard last.
        recovery: Says since when the stream is broken.
        recover_s: Seconds that an outage may last.

    Attributes:
        given_up: Why, once a person has insisted; empty before.
    """

    def __init__(
        self, connections: SourceConnections, recovery: Recovery, recover_s: float
    ) -> None:
        self._connections, self._recovery, self._recover_s = connections, recovery, recover_s
        self._escalation = SignalEscalation(time.monotonic())
        self._supply: PageSupply | None = None
        self._missing = 0
        self._switched_s = 0.0
        self.given_up = ""  # why, once a person has insisted

    def switched(self, supply: PageSupply, missing: int) -> None:
        """Note that pages have begun to follow the guest.

        Args:
            supply: Knows how many of them are left.
            missing: How many there were at the beginning.
        """
        self._supply, self._missing = supply, missing
        self._switched_s = time.monotonic()

    @property
    def unsent(self) -> int | None:
        """Pages that have not been sent; None where none had to follow."""
        return None if self._supply is None else self._supply.unsent()

    @property
    def is_well(self) -> bool:
        """Whether the destination answers, and nothing between the two is broken."""
        return self._trouble_s() is None

    @property
    def lacks(self) -> str:
        """What the guest lacks if it ends now, as the end of a sentence; empty: not known."""
        unsent = self.unsent
        return "" if not unsent else f": at least {unsent:,} of {self._missing:,} pages are missing"

    def attend(self) -> None:
        """Notice that this process runs: see `SignalEscalation.attend`."""
        self._escalation.attend(time.monotonic())

    def signal(self, state: State, *, alone: bool) -> tuple[SignalReply, str]:
        """Take a signal that has come.

        Args:
            state: Where the hand-over stands.
            alone: Whether nobody is left who could send another one.

        Returns:
            What is to be done, and what to tell the user.
        """
        reply = self._escalation.signal(time.monotonic(), self._trouble_s(), alone=alone)
        return reply, self._words(reply, state)

    def look(self, state: State, *, alone: bool) -> tuple[SignalReply, str] | None:
        """Look, from time to time after a signal, whether there is something new to tell.

        Args:
            state: Where the hand-over stands.
            alone: Whether nobody is left who could send another signal.

        Returns:
            What is to be done, and what to tell the user; None: no news.
        """
        reply = self._escalation.look(self._trouble_s(), alone=alone)
        return None if reply is None else (reply, self._words(reply, state))

    def _trouble_s(self) -> float | None:
        now_s = time.monotonic()
        heard_s = self._connections.control.heard_s if self._connections.connected else now_s
        return self._escalation.trouble_s(self._recovery.began_s, heard_s, now_s)

    def _words(self, reply: SignalReply, state: State) -> str:
        if reply is SignalReply.END:
            self.given_up = f"{GIVEN_UP}{self.lacks}"
            return self.given_up
        if reply is SignalReply.SEEN_THROUGH:
            return f"{TOO_LATE}{self._takes()}"
        left = format_time(round(self._left_s(), 1))
        if state in _FOLLOWS:
            return (
                f"the destination does not answer{self.lacks}, and the guest is lost if this ends"
                f" now. It is tried for another {left}; {AGAIN}"
            )
        return (
            "the destination does not answer, and whether it runs the guest is not known. It is"
            f" asked for another {left}; {AGAIN}, in doubt"
        )

    def _left_s(self) -> float:
        now_s = time.monotonic()
        if self._recovery.out or not self._connections.connected:
            return self._recovery.left_s(now_s)
        silent_s = now_s - self._connections.control.heard_s
        return max(self._connections.stall_s - silent_s, 0.0) + self._recover_s

    def _takes(self) -> str:
        """Say how long it will take, by what it has taken so far."""
        unsent = self.unsent
        if not unsent:
            return ""
        sent, took_s = self._missing - unsent, time.monotonic() - self._switched_s
        if sent <= 0 or took_s <= 0:
            return f", {unsent:,} pages have yet to be sent"
        left_s = took_s * unsent / sent
        return f", {unsent:,} pages have yet to be sent: about {format_time(round(left_s, 1))}"
