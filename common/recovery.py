"""Recovery of post-copy: which attempt counts, when an outage is over, and how long it may last.

This file knows nothing of sockets, clocks, messages or guests. It is one table, and these are its
rules:

1. Every connection belongs to one numbered attempt: 0 is a session's first, each time that the
   source comes back is one more. At the destination the newest wins: what is of an older one is
   closed unread, in whatever order they come. What is reported of connections that are of another
   attempt than the present one is nobody's concern.
2. An outage begins when a stream that was whole breaks. It is over when the new attempt's control
   connection and its urgent one have both been shown to work end to end (a probe was answered), or
   when a page has come through, or when nothing is missing: a lazy copy may move no page for long.
   Connections that merely stand show nothing.
3. Its limit counts from its beginning, over however many attempts, and bounds every wait within.
4. The first attempt is made at once; pauses between further ones grow until the outage is over.
5. What is not in the table raises and leaves everything as it was.

    whole ── broke ──> broken ── joined ──> joining ── stands ──> proving ── proved ──> whole
                         ^  │                 │                     │
                         │  │<──── broke ─────┘<────── broke ───────┘
                         └──┘
    from every one of them:  settled ──> settled (nothing is missing),  gave_up ──> given-up
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pageferry.common.errors import LocalProtocolError


class Phase(StrEnum):
    """What there is between the two ends."""

    WHOLE = "whole"  # pages may flow, and once they could
    BROKEN = "broken"  # no connection that counts
    JOINING = "joining"  # an attempt's control connection stands: what is missing is agreed on
    PROVING = "proving"  # all of its connections stand, and nothing has shown that they work
    SETTLED = "settled"  # nothing is missing any more
    GIVEN_UP = "given-up"  # the limit is over, or somebody said that it has no sense


class Event(StrEnum):
    """What happens to the present attempt."""

    BROKE = "broke"
    JOINED = "joined"
    STANDS = "stands"
    PROVED = "proved"
    SETTLED = "settled"
    GAVE_UP = "gave_up"


class Proof(StrEnum):
    """What has been seen to work, end to end."""

    CONTROL = "control"  # a probe on the control connection was answered
    URGENT = "urgent"  # likewise
    PAGE = "page"  # a page has come through
    NOTHING = "nothing"  # the destination has said that it lacks none


_P, _E = Phase, Event

TABLE: Final[dict[Phase, dict[Event, Phase]]] = {
    _P.WHOLE: {_E.BROKE: _P.BROKEN, _E.SETTLED: _P.SETTLED, _E.GAVE_UP: _P.GIVEN_UP},
    _P.BROKEN: {
        _E.BROKE: _P.BROKEN,
        _E.JOINED: _P.JOINING,
        _E.SETTLED: _P.SETTLED,
        _E.GAVE_UP: _P.GIVEN_UP,
    },
    _P.JOINING: {
        _E.BROKE: _P.BROKEN,
        _E.STANDS: _P.PROVING,
        _E.SETTLED: _P.SETTLED,
        _E.GAVE_UP: _P.GIVEN_UP,
    },
    _P.PROVING: {
        _E.BROKE: _P.BROKEN,
        _E.PROVED: _P.WHOLE,
        _E.SETTLED: _P.SETTLED,
        _E.GAVE_UP: _P.GIVEN_UP,
    },
    # A source that missed that nothing is missing comes back to hear it, as often as it must.
    _P.SETTLED: {_E.BROKE: _P.SETTLED, _E.JOINED: _P.SETTLED},
    _P.GIVEN_UP: {_E.BROKE: _P.GIVEN_UP},
}

FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 1.0
_ENOUGH: Final = ({Proof.PAGE}, {Proof.NOTHING}, {Proof.CONTROL, Proof.URGENT})


class Recovery:
    """One end's outages, one after another. Times are seconds of any one clock of the caller's.

    limit_s: of an outage, from its beginning. attempt: the present one, whose connections count.
    """

    def __init__(self, limit_s: float, attempt: int = 0) -> None:
        self.limit_s: Final = limit_s
        self.attempt = attempt
        self._dialled = 0  # attempts that the source has made in this outage
        self._phase = Phase.WHOLE
        self._began_s: float | None = None
        self._seen: set[Proof] = set()

    @property
    def phase(self) -> Phase:
        """What there is between the two ends."""
        return self._phase

    @property
    def out(self) -> bool:
        """Whether there is an outage."""
        return self._began_s is not None

    @property
    def began_s(self) -> float | None:
        """When the outage began; None where there is none."""
        return self._began_s

    @property
    def deadline_s(self) -> float | None:
        """When the outage must be over; None where there is none."""
        return None if self._began_s is None else self._began_s + self.limit_s

    def left_s(self, now_s: float) -> float:
        """How long the outage may go on; all of the limit where there is none."""
        deadline_s = self.deadline_s
        return self.limit_s if deadline_s is None else max(deadline_s - now_s, 0.0)

    def pause_s(self) -> float:
        """Before the attempt that is made next."""
        if self._dialled == 0:
            return 0.0
        return min(FIRST_PAUSE_S * 2.0 ** min(self._dialled - 1, 32), LONGEST_PAUSE_S)

    def broke(self, attempt: int, now_s: float) -> bool:
        """A connection of that attempt is broken, or silent for too long; whether that is news.

        Where it is, everything of that attempt is to be closed.
        """
        if attempt != self.attempt:
            return False
        before = self._phase
        self._step(Event.BROKE)
        if before is Phase.WHOLE:
            self._began_s, self._dialled = now_s, 0
        return before is not self._phase

    def dial(self) -> int:
        """The source makes an attempt: its number. Only where the present one is broken."""
        if self._phase is not Phase.BROKEN:
            raise LocalProtocolError(f"an attempt to recover where the stream is {self._phase}")
        self.attempt += 1
        self._dialled += 1
        return self.attempt

    def is_newer(self, attempt: int) -> bool:
        """Whether a source that comes with this attempt is listened to. The end of all is final."""
        return attempt > self.attempt and self._phase is not Phase.GIVEN_UP

    def admits(self, attempt: int) -> bool:
        """Whether a further connection of that attempt has a use: not where it has broken."""
        broken = self._phase in (Phase.BROKEN, Phase.GIVEN_UP)
        return attempt == self.attempt and not broken

    def joined(self, attempt: int) -> None:
        """Its control connection stands, and it is the present one from now on."""
        if attempt < self.attempt:
            raise LocalProtocolError(f"attempt {attempt} comes after attempt {self.attempt}")
        self._step(Event.JOINED)
        self.attempt = attempt
        self._seen.clear()

    def stands(self, attempt: int) -> bool:
        """All of its connections do; whether that counts."""
        if attempt != self.attempt or self._phase is not Phase.JOINING:
            return False
        self._step(Event.STANDS)
        self._weigh()
        return True

    def proved(self, attempt: int, proof: Proof) -> bool:
        """That has been seen of it; whether the outage is over by it."""
        if attempt != self.attempt or self._phase not in (Phase.JOINING, Phase.PROVING):
            return False
        self._seen.add(proof)
        return self._weigh()

    def _weigh(self) -> bool:
        if self._phase is not Phase.PROVING or not any(each <= self._seen for each in _ENOUGH):
            return False
        self._step(Event.PROVED)
        self._over()
        return True

    def settled(self) -> None:
        """Nothing is missing any more."""
        self._step(Event.SETTLED)
        self._over()

    def gave_up(self) -> None:
        """The outage has lasted as long as it may, or longer has no sense."""
        self._step(Event.GAVE_UP)
        self._over()

    def _over(self) -> None:
        self._began_s, self._dialled = None, 0
        self._seen.clear()

    def _step(self, event: Event) -> None:
        try:
            self._phase = TABLE[self._phase][event]
        except KeyError:
            raise LocalProtocolError(
                f"{event} is illegal in a recovery that is {self._phase}"
            ) from None
