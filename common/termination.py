"""How to ask an agent to end that holds, or has handed over, a guest that is in two places.

While pages are on their way and all is well, every signal is put off until the migration is
through: ending would lose a guest that is about to be whole. Where it is in trouble (the stream is
broken, or the peer has been silent for longer than `SILENT_S`), a first signal is answered with
what is at stake and how long the agent goes on trying; one more INT or TERM ends it. Signals are
those that `common.process.signals` lets through: any number of HUPs is one first signal, and never
a second one.

This file knows nothing of processes or clocks: times are seconds of any one clock.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

SILENT_S: Final = 2.0
AWAY_S: Final = 1.0  # who has not looked for so long stood still itself: looks come far more often
GIVEN_UP: Final = "given up, as it was asked for"
AGAIN: Final = "one more signal ends it"
LAST_RESORT_S: Final = 4.0  # an agent that is to end has ended by then, or is killed as it stands


class SignalReply(Enum):
    """What is done about a signal."""

    SEEN_THROUGH = auto()  # all is well: it goes on to the end
    STAKE = auto()  # say what is at stake, and go on
    END = auto()


class SignalEscalation:
    """The signals that one agent has been sent, and what it has answered.

    Args:
        now_s: The present time, when watching begins.
    """

    def __init__(self, now_s: float) -> None:
        self._times: list[float] = []
        self._told = False
        self._looked_s = self._back_s = now_s

    def signal(self, now_s: float, trouble_s: float | None, *, alone: bool = False) -> SignalReply:
        """Take a signal that has come.

        Args:
            now_s: The present time.
            trouble_s: Since when there is trouble; None: all is well.
            alone: Whether nobody is left who could send a second one, as where a supervisor has
                died.

        Returns:
            What to do about it.
        """
        self._times.append(now_s)
        if trouble_s is None:
            return SignalReply.SEEN_THROUGH
        if alone or self._told:
            return SignalReply.END
        return self._tell(trouble_s)

    def look(self, trouble_s: float | None, *, alone: bool = False) -> SignalReply | None:
        """Check, from time to time, for trouble that began after a signal.

        Signals that came after the trouble had begun, and before it was seen, count.

        Args:
            trouble_s: Since when there is trouble; None: all is well.
            alone: Whether nobody is left who could send a second signal.

        Returns:
            What to do about signals that have come before; None: no news.
        """
        if trouble_s is None:
            self._told = False
        if trouble_s is None or not self._times or self._told:
            return None
        return SignalReply.END if alone else self._tell(trouble_s)

    def attend(self, now_s: float) -> None:
        """Show that this process runs; call it several times a second, from the beginning on.

        Nobody counts as silent while this process itself stands still, as when it has been stopped
        by a signal, or on a machine that was suspended: silence counts from its continuation.

        Args:
            now_s: The present time.
        """
        if now_s - self._looked_s > AWAY_S:
            self._back_s = now_s
        self._looked_s = now_s

    def trouble_s(self, broken_s: float | None, heard_s: float, now_s: float) -> float | None:
        """Find out since when there is trouble.

        Args:
            broken_s: Since when the stream is broken; None: it is not.
            heard_s: When the peer last said something.
            now_s: The present time.

        Returns:
            When it began; None: there is none.
        """
        self.attend(now_s)
        if broken_s is not None:
            return broken_s
        heard_s = max(heard_s, self._back_s)
        return heard_s if now_s - heard_s > SILENT_S else None

    def _tell(self, trouble_s: float) -> SignalReply:
        """Decide how to answer trouble that has not been answered yet."""
        self._told = True
        since = sum(time_s >= trouble_s for time_s in self._times)
        return SignalReply.END if since > 1 else SignalReply.STAKE
