"""A move that is under way from this host."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from pageferry.common.termination import SignalReply
from pageferry.source_agent.session.session import SourceSession


@dataclass(slots=True)
class GuestMove:
    """A guest on its way out.

    Attributes:
        name: The guest's.
        peer: HOST:PORT of the other host, as the user gave it.
        session: The source session.
        task: Runs the session; to be cancelled only as `cancel` does it.
    """

    name: str
    peer: str
    session: SourceSession
    task: asyncio.Task[None]

    def cancel(self) -> str | None:
        """Have the guest go on here, if it is not too late for that.

        The second call gives up a move whose other host does not answer.

        Returns:
            What a person must know if it is too late; None if the move is being cancelled.
        """
        if self.session.can_cancel:
            self.task.cancel()
            return None
        return self._replied(self.session.asked_to_end())

    def still_asked(self) -> str | None:
        """Look for trouble that began after `cancel`; to be called from time to time.

        Returns:
            What a person must know; None for no news.
        """
        news = self.session.still_asked()
        return None if news is None else self._replied(news)

    def _replied(self, answer: tuple[SignalReply, str]) -> str:
        reply, words = answer
        self.session.notice = words
        if reply is SignalReply.END:
            self.task.cancel(words)
        return words

    @property
    def may_be_ended(self) -> bool:
        """Whether ending now loses nothing that could still be had."""
        return self.session.can_cancel or not self.session.is_well
