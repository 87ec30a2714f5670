"""Ending a destination session: what a signal to its agent does, and what is said about it.

Before the whole commit is here the session ends, and its source is told. A guest that runs here
gets the pages that it lacks; one that is whole runs no further, and its source gets the result.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from pageferry.common.guest_location import When
from pageferry.common.termination import AGAIN, GIVEN_UP, SignalEscalation, SignalReply
from pageferry.common.units import format_time
from pageferry.dest_agent.postcopy.monitor import Postcopy
from pageferry.dest_agent.protocol import DestProtocol
from pageferry.dest_agent.session.context import Prepared
from pageferry.dest_agent.session.inbox import DestControl
from pageferry.dest_agent.session.run import GuestRun


class Termination:
    """The signals of one session, and the answers to them.

    Args:
        protocol: Only looked at.
        control: Only looked at: when the source was last heard.
        when: Returns how far the hand-over has come.
        end: Ends the session where it stands.

    Attributes:
        stopping: Set once the agent is to end.
        seen_through: Whether pages of the guest were missing at the first signal.
    """

    def __init__(
        self,
        protocol: DestProtocol,
        control: DestControl,
        when: Callable[[], When],
        end: Callable[[], None],
    ) -> None:
        self.stopping = asyncio.Event()
        self.seen_through = False
        self._protocol = protocol
        self._control = control
        self._when = when
        self._end = end
        self._escalation = SignalEscalation(time.monotonic())
        self._prepared: Prepared | None = None
        self._running: GuestRun | None = None

    def runs(self, prepared: Prepared, running: GuestRun) -> None:
        """Note that the guest runs here, or is about to.

        Args:
            prepared: The guest.
            running: Its run.
        """
        self._prepared, self._running = prepared, running

    def signal(self, *, alone: bool) -> str | None:
        """Take a signal.

        Args:
            alone: Whether nobody is left who could send another one.

        Returns:
            What a person must know; None for nothing.
        """
        if not self._protocol.handover.may_run_guest:
            self._end()
            return None
        first = not self.stopping.is_set()
        self.stopping.set()
        reply = self._escalation.signal(time.monotonic(), self._trouble_s(), alone=alone)
        if self._when() is not When.PARTLY:
            return self._of_whole(reply if first else SignalReply.END)
        self.seen_through |= first
        return self._of_missing(reply)

    def look(self, *, alone: bool) -> str | None:
        """Look for trouble that began after a signal, and treat it as `signal` would.

        Args:
            alone: Whether nobody is left who could send another signal.

        Returns:
            What a person must know; None for nothing.
        """
        self._escalation.attend(time.monotonic())
        if not self._protocol.handover.may_run_guest:
            return None
        reply = self._escalation.look(self._trouble_s(), alone=alone)
        if reply is None:
            return None
        return self._of_missing(reply) if self._when() is When.PARTLY else self._of_whole(reply)

    @property
    def may_be_ended(self) -> bool:
        """Whether ending now loses nothing that could still be had."""
        return self._when() is not When.PARTLY or self._trouble_s() is not None

    @property
    def lacks(self) -> str:
        """What a guest lacks that has ended here or ends now, in words; empty for nothing."""
        if self._when() is not When.PARTLY or self._prepared is None:
            return ""
        return f": {self._missing():,} of {self._prepared.guest.n_pages:,} pages of it are missing"

    @property
    def _postcopy(self) -> Postcopy | None:
        return None if self._prepared is None else self._prepared.postcopy

    def _missing(self) -> int:
        return 0 if self._postcopy is None else self._postcopy.faults.missing_count

    def _trouble_s(self) -> float | None:
        if self._running is not None and self._running.said_bye:
            return None
        heard_s, now_s = self._control.connection.heard_at, time.monotonic()
        return self._escalation.trouble_s(self._protocol.recovery.began_s, heard_s, now_s)

    def _of_whole(self, reply: SignalReply) -> str | None:
        """Answer for a guest that is whole: only the source is waited for, to take the result."""
        if reply is SignalReply.END:
            self._end()
        if reply is not SignalReply.STAKE:
            return None
        left_s = self._control.connection.patience_s
        if self._running is not None and self._running.fetched:
            left_s += self._protocol.recovery.limit_s
        return (
            "the guest is whole here, and its source does not answer: it is waited for at most"
            f" another {format_time(round(left_s, 1))}, until it has the result; {AGAIN}"
        )

    def _of_missing(self, reply: SignalReply) -> str:
        if reply is SignalReply.END:
            self._end()
            return f"{GIVEN_UP}{self.lacks}"
        missing = self._missing()
        if reply is SignalReply.SEEN_THROUGH:
            return (
                f"the guest runs here, and {missing:,} pages of it are missing: that is seen"
                f" through, or it would be lost{self._takes()}"
            )
        left = format_time(round(self._protocol.recovery.left_s(time.monotonic()), 1))
        return (
            f"the source does not answer, {missing:,} pages of the guest are missing, and it is"
            f" lost if this ends now. It is waited for another {left}; {AGAIN}"
        )

    def _takes(self) -> str:
        left_s = None if self._postcopy is None else self._postcopy.left_s()
        return "" if left_s is None else f", which takes about {format_time(round(left_s, 1))}"
