"""A move that is under way from this host."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from pageferry.common.termination import Reply
from pageferry.source_agent.session.session import SourceSession


@dataclass(slots=True)
class Move:
    """A guest on its way out."""

    name: str
    peer: str
    session: SourceSession
    task: asyncio.Task[None]

    def cancel(self) -> str | None:
        """The guest is to go on here; what a person must know where it is too late for that.

        A move whose other host does not answer is given up by the second call.
        """
        if self.session.can_cancel:
            self.task.cancel()
            return None
        return self._replied(self.session.asked_to_end())

    def still_asked(self) -> str | None:
        """Likewise, from time to time after that."""
        news = self.session.still_asked()
        return None if news is None else self._replied(news)

    def _replied(self, answer: tuple[Reply, str]) -> str:
        reply, words = answer
        self.session.notice = words
        if reply is Reply.END:
            self.task.cancel(words)
        return words

    @property
    def may_be_ended(self) -> bool:
        """Whether nothing would be lost by that that could be had."""
        return self.session.can_cancel or not self.session.is_well
