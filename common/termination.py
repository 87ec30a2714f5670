"""Asking an agent to end that holds, or has handed over, a guest that is in two places.

While pages are on their way and all is well, every signal is seen through: ending would lose a
guest that is about to be whole. Where it is in trouble (the stream is broken, or the peer has been
silent for longer than `SILENT_S`) a first signal is told what is at stake and how long it is gone
on trying; one more INT or TERM ends it. Signals are what `common.process.signals` lets through: any
number of HUPs is one first signal, and never a second one.

This file knows nothing of processes or clocks: times are seconds of any one clock.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

SILENT_S: Final = 2.0
AWAY_S: Final = 1.0  # who has not looked for so long stood still itself: looks are much closer
GIVEN_UP: Final = "given up, as it was asked for"
AGAIN: Final = "one more signal ends it"
LAST_RESORT_S: Final = 4.0  # an agent that is to end has ended by then, or is ended as it stands


class Reply(Enum):
    """What is done about a signal."""

    SEEN_THROUGH = auto()  # all is well, and it takes so long
    STAKE = auto()  # it is said what is at stake
    END = auto()


class Insisting:
    """The signals that one agent has been sent, and what it has said to them.

    alone: nobody is left who could send a second one, as where a supervisor has died.
    """

    def __init__(self, now_s: float) -> None:
        self._times: list[float] = []
        self._told = False
        self._looked_s = self._back_s = now_s

    def signal(self, now_s: float, trouble_s: float | None, *, alone: bool = False) -> Reply:
        """One has come. trouble_s: since when there is trouble; None: all is well."""
        self._times.append(now_s)
        if trouble_s is None:
            return Reply.SEEN_THROUGH
        if alone or self._told:
            return Reply.END
        return self._tell(trouble_s)

    def look(self, trouble_s: float | None, *, alone: bool = False) -> Reply | None:
        """From time to time: trouble that began after a signal is told, too. None: no news.

        Signals that came after it had begun, and before it was seen, count.
        """
        if trouble_s is None:
            self._told = False
        if trouble_s is None or not self._times or self._told:
            return None
        return Reply.END if alone else self._tell(trouble_s)

    def attend(self, now_s: float) -> None:
        """To be called several times a second, from the beginning on.

        Nobody is silent while this process itself stands still, as when it has been stopped by a
        signal, or on a machine that was suspended: silence counts from its continuation.
        """
        if now_s - self._looked_s > AWAY_S:
            self._back_s = now_s
        self._looked_s = now_s

    def trouble_s(self, broken_s: float | None, heard_s: float, now_s: float) -> float | None:
        """Since when there is trouble; None: there is none.

        broken_s: since when the stream is broken; heard_s: when the peer said something last.
        """
        self.attend(now_s)
        if broken_s is not None:
            return broken_s
        heard_s = max(heard_s, self._back_s)
        return heard_s if now_s - heard_s > SILENT_S else None

    def _tell(self, trouble_s: float) -> Reply:
        self._told = True
        since = sum(time_s >= trouble_s for time_s in self._times)
        return Reply.END if since > 1 else Reply.STAKE
