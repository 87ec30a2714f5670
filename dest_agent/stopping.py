"""Ending a destination agent: what a signal does to its sessions, and what became of each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from pageferry.common.errors import EXIT_CANCELLED, EXIT_IN_DOUBT, EXIT_OK, PageferryError
from pageferry.common.guest_location import NOBODY_HERE, TABLE, Who
from pageferry.common.process.last_resort import last_resort
from pageferry.common.process.status import is_orphan
from pageferry.dest_agent.session.session import DestSession
from pageferry.dest_agent.session_table import SessionTable

LOOK_S: Final = 0.25  # how often to look for trouble


class Stopping:
    """Signals that ask an agent to end, and the fates of sessions that were under way then.

    Args:
        table: The agent's sessions; only read.
        say: Takes one line for people; used until the first signal brings its own.
        supervisor: PID of the process that started this one; None if nobody did, or if it does not
            matter.

    Attributes:
        begun: Whether a signal has come.
    """

    def __init__(
        self, table: SessionTable, say: Callable[[str], None], supervisor: int | None
    ) -> None:
        self.begun = False
        self._table = table
        self._tell = say  # for what is said about a signal
        self._supervisor = supervisor
        self._fates: list[tuple[int, str]] = []

    def signal(self, tell: Callable[[str], None]) -> bool:
        """Take a signal, and pass it to every session.

        Args:
            tell: Takes one line for people, from now on.

        Returns:
            Whether another signal has come before.
        """
        again, self.begun = self.begun, True
        self._tell = tell
        for session in self._table:
            self._say_of(session, session.termination.signal(alone=self._alone))
        return again

    @property
    def _alone(self) -> bool:
        return is_orphan(self._supervisor)

    @property
    def may_be_ended(self) -> bool:
        """Whether ending now loses no guest that could still become whole here."""
        return all(session.termination.may_be_ended for session in self._table)

    async def look(self) -> None:
        """Report trouble that begins after a signal; runs until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            for session in self._table:
                self._say_of(session, session.termination.look(alone=self._alone))

    def _say_of(self, session: DestSession, words: str | None) -> None:
        if words is not None:
            self._tell(f"session {session.session[:8]}: {words}")

    # -- what is said at the end ----------------------------------------------------------------

    def note(self, session: DestSession) -> None:
        """Note what became of a session that has just ended, if a signal has come.

        A guest that is kept lives on with its host and is not noted.

        Args:
            session: It has ended, and its result or failure stands.
        """
        if self.begun and not session.reservation.kept:
            self._fates.append(_fate(session))

    @property
    def fates(self) -> list[tuple[int, str]]:
        """Exit code and words for each session that was under way, as if everything ended now."""
        under_way = [each for each in self._table if not each.reservation.kept]
        return [*self._fates, *map(_fate, under_way)]

    @property
    def closing_line(self) -> str:
        """What became of the guests that were here or on their way, in one line."""
        return f"stopped: {'; '.join(words for _, words in self.fates) or NOBODY_HERE}"

    def exit_code(self, failure: PageferryError | None = None) -> int:
        """Return the agent's exit code.

        Args:
            failure: What its only session failed with; counts if that ended before the signal.

        Returns:
            The failure's code, or the worst of all sessions that were under way at the signal.
        """
        if not self._fates and failure is not None:
            return failure.exit_code
        return worst([code for code, _ in self._fates])

    def last_resort(self) -> None:
        """End the process within seconds, whatever hangs."""
        last_resort(self.closing_line, worst([code for code, _ in self.fates]))


def _fate(session: DestSession) -> tuple[int, str]:
    """Return exit code and words for a session that has ended, or ends now."""
    code, words = EXIT_OK, "its guest came in whole, and its source has the result"
    if session.had_its_run and session.handover.finished:
        words = "its guest came in whole, and had its run"
    elif not (session.termination.seen_through and session.said_bye):
        there = TABLE[Who.HERE, session.when]
        code, words = there.exit_code, f"{there.words}{session.termination.lacks}"
    return code, f"session {session.session[:8]}: {words}"


def worst(codes: Sequence[int]) -> int:
    """Return the exit code of an agent that was stopped.

    Args:
        codes: Of its sessions.

    Returns:
        `EXIT_IN_DOUBT` if it is among them, `EXIT_OK` if there are some and all are that, else
        `EXIT_CANCELLED`.
    """
    if EXIT_IN_DOUBT in codes:
        return EXIT_IN_DOUBT
    return EXIT_OK if codes and set(codes) == {EXIT_OK} else EXIT_CANCELLED
