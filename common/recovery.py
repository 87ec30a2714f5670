"""Recovery of post-copy: which attempt counts, when an outage is over, and how long it may last.

This file knows nothing of sockets, clocks, messages or guests. It is one table, and these are its
rules:

1. Every connection belongs to one numbered attempt: 0 is a session's first, and each time the
   source comes back it is one more. At the destination the newest wins: connections of an older
   one are closed unread, in whatever order they come. Reports about connections of any attempt
   but the present one are ignored.
2. An outage begins when a stream that was whole breaks. It is over when both the control connection
   and the urgent connection of the new attempt have been shown to work end to end (a probe was
   answered), or when a page has come through, or when nothing is missing: a lazy copy may move no
   page for a long time. Connections that merely stand show nothing.
3. Its limit counts from its beginning, over however many attempts, and bounds every wait in it.
4. The first attempt is made at once; pauses between further ones grow until the outage is over.
5. A step that is not in the table raises an error and leaves everything as it was.

    whole ── broke ──> broken ── joined ──> joining ── stands ──> proving ── proved ──> whole
                         ^  │                 │                     │
                         │  │<──── broke ─────┘<────── broke ───────┘
                         └──┘
    from each of them:  settled ──> settled (nothing is missing),  gave_up ──> given-up
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pageferry.common.errors import LocalProtocolError


class RecoveryPhase(StrEnum):
    """What there is between the two ends."""

    WHOLE = "whole"  # pages can flow
    BROKEN = "broken"  # no connection counts
    JOINING = "joining"  # an attempt's control connection stands: what is missing is agreed on
    PROVING = "proving"  # all of its connections stand, and nothing has shown that they work
    SETTLED = "settled"  # nothing is missing any more
    GIVEN_UP = "given-up"  # the limit has passed, or somebody said that there is no point


class RecoveryEvent(StrEnum):
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
    URGENT = "urgent"  # a probe on the urgent connection was answered
    PAGE = "page"  # a page has come through
    NOTHING = "nothing"  # the destination has said that no page is missing


_P, _E = RecoveryPhase, RecoveryEvent

TABLE: Final[dict[RecoveryPhase, dict[RecoveryEvent, RecoveryPhase]]] = {
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
    # A source that missed the news that nothing is missing comes back for it, as often as it must.
    _P.SETTLED: {_E.BROKE: _P.SETTLED, _E.JOINED: _P.SETTLED},
    _P.GIVEN_UP: {_E.BROKE: _P.GIVEN_UP},
}

FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 1.0
_ENOUGH: Final = ({Proof.PAGE}, {Proof.NOTHING}, {Proof.CONTROL, Proof.URGENT})


class Recovery:
    """One end's outages, one after another. Times are seconds of any one clock of the caller's.

    Args:
        limit_s: How long an outage may last, seconds from its beginning.
        attempt: The attempt that the session's first connections belong to.

    Attributes:
        limit_s: As given.
        attempt: The present attempt, whose connections count.
    """

    def __init__(self, limit_s: float, attempt: int = 0) -> None:
        self.limit_s: Final = limit_s
        self.attempt = attempt
        self._dialled = 0  # attempts that the source has made in this outage
        self._phase = RecoveryPhase.WHOLE
        self._began_s: float | None = None
        self._seen: set[Proof] = set()

    @property
    def phase(self) -> RecoveryPhase:
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
        """Compute how much longer the outage may last.

        Args:
            now_s: The present time, of the caller's clock.

        Returns:
            Seconds, at least 0; the whole limit where there is no outage.
        """
        deadline_s = self.deadline_s
        return self.limit_s if deadline_s is None else max(deadline_s - now_s, 0.0)

    def pause_s(self) -> float:
        """Compute how long the source waits before its next attempt.

        Returns:
            Seconds: 0 before an outage's first attempt, then doubling from 0.05 to at most 1.
        """
        if self._dialled == 0:
            return 0.0
        return min(FIRST_PAUSE_S * 2.0 ** min(self._dialled - 1, 32), LONGEST_PAUSE_S)

    def broke(self, attempt: int, now_s: float) -> bool:
        """Note that a connection is broken, or has been silent for too long.

        Args:
            attempt: The attempt that the connection belongs to.
            now_s: The present time, of the caller's clock; an outage that begins here counts from
                it.

        Returns:
            Whether that is news. Every connection of that attempt is then to be closed.
        """
        if attempt != self.attempt:
            return False
        before = self._phase
        self._step(RecoveryEvent.BROKE)
        if before is RecoveryPhase.WHOLE:
            self._began_s, self._dialled = now_s, 0
        return before is not self._phase

    def dial(self) -> int:
        """Begin a new attempt, at the source.

        Returns:
            The attempt's number, which is the present one from now on.

        Raises:
            LocalProtocolError: The present attempt is not broken.
        """
        if self._phase is not RecoveryPhase.BROKEN:
            raise LocalProtocolError(f"an attempt to recover where the stream is {self._phase}")
        self.attempt += 1
        self._dialled += 1
        return self.attempt

    def is_newer(self, attempt: int) -> bool:
        """Tell whether a source that comes with this attempt is listened to.

        Args:
            attempt: As the source says in its hello.

        Returns:
            Whether it is newer than the present one. Once this end has given up, nobody is listened
            to.
        """
        return attempt > self.attempt and self._phase is not RecoveryPhase.GIVEN_UP

    def admits(self, attempt: int) -> bool:
        """Tell whether a further connection of an attempt is of use.

        Args:
            attempt: As the connection's hello says.

        Returns:
            Whether it is the present attempt, and has not broken.
        """
        broken = self._phase in (RecoveryPhase.BROKEN, RecoveryPhase.GIVEN_UP)
        return attempt == self.attempt and not broken

    def joined(self, attempt: int) -> None:
        """Note that an attempt's control connection stands; it is the present attempt from now on.

        Args:
            attempt: Its number, not below the present one.

        Raises:
            LocalProtocolError: The attempt is older than the present one, or the stream is not
                broken.
        """
        if attempt < self.attempt:
            raise LocalProtocolError(f"attempt {attempt} comes after attempt {self.attempt}")
        self._step(RecoveryEvent.JOINED)
        self.attempt = attempt
        self._seen.clear()

    def stands(self, attempt: int) -> bool:
        """Note that all connections of an attempt stand.

        Args:
            attempt: Its number.

        Returns:
            Whether that counted: the attempt is the present one and was still joining. With what
            has been seen to work already, the outage may be over by it.
        """
        if attempt != self.attempt or self._phase is not RecoveryPhase.JOINING:
            return False
        self._step(RecoveryEvent.STANDS)
        self._weigh()
        return True

    def proved(self, attempt: int, proof: Proof) -> bool:
        """Note what has been seen to work of an attempt.

        Args:
            attempt: Its number; older ones are ignored.
            proof: What was seen. It may come before all connections stand, and is kept until they
                do.

        Returns:
            Whether this ended the outage.
        """
        if attempt != self.attempt or self._phase not in (_P.JOINING, _P.PROVING):
            return False
        self._seen.add(proof)
        return self._weigh()

    def _weigh(self) -> bool:
        """End the outage where enough has been seen to work; return whether it was ended."""
        if self._phase is not _P.PROVING or not any(each <= self._seen for each in _ENOUGH):
            return False
        self._step(RecoveryEvent.PROVED)
        self._over()
        return True

    def settled(self) -> None:
        """Note that nothing is missing any more; an outage is over with it.

        Raises:
            LocalProtocolError: That was noted before, or this end has given up.
        """
        self._step(RecoveryEvent.SETTLED)
        self._over()

    def gave_up(self) -> None:
        """Give up: the outage has lasted as long as it may, or there is no point in going on.

        Raises:
            LocalProtocolError: Nothing was missing any more, or this end has given up before.
        """
        self._step(RecoveryEvent.GAVE_UP)
        self._over()

    def _over(self) -> None:
        """Forget the outage and what was seen in it."""
        self._began_s, self._dialled = None, 0
        self._seen.clear()

    def _step(self, event: RecoveryEvent) -> None:
        """Look the event up in the table; raise `LocalProtocolError` where it is illegal."""
        try:
            self._phase = TABLE[self._phase][event]
        except KeyError:
            raise LocalProtocolError(
                f"{event} is illegal in a recovery that is {self._phase}"
            ) from None
