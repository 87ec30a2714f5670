"""The guests of a host: their names, and what is being done with each.

While something is being done with a guest, nobody else may use it: a guest has one controlling
thread at a time, and one session at most.

    booting ──┐                    ┌── moving ──> gone, or in-doubt
              ├──> running <───────┤
    arriving ─┘       │            └── checking
                      v
                    ending ──> gone
    in-doubt ──> asking ──> running, in-doubt, or gone
        └──────> ending
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Final

from pageferry.common.errors import LocalProtocolError, PageferryError, UsageError
from pageferry.common.guest.machine import Guest
from pageferry.common.process.aio import to_loop
from pageferry.source_agent.session.session import SourceSession

MAX_GUESTS: Final = 64


class Doing(StrEnum):
    """What a guest does, or what is being done with it."""

    BOOTING = "booting"
    ARRIVING = "arriving"
    RUNNING = "running"
    MOVING = "moving"
    CHECKING = "checking"
    IN_DOUBT = "in-doubt"
    ASKING = "asking"
    ENDING = "ending"


_D = Doing
_NEXT: Final[dict[Doing, frozenset[Doing]]] = {
    _D.BOOTING: frozenset({_D.RUNNING}),
    _D.ARRIVING: frozenset({_D.RUNNING}),
    _D.RUNNING: frozenset({_D.MOVING, _D.CHECKING, _D.ENDING}),
    _D.MOVING: frozenset({_D.RUNNING, _D.IN_DOUBT}),
    _D.CHECKING: frozenset({_D.RUNNING}),
    _D.IN_DOUBT: frozenset({_D.ASKING, _D.ENDING}),
    _D.ASKING: frozenset({_D.RUNNING, _D.IN_DOUBT}),
    _D.ENDING: frozenset(),
}
# Why nothing else can be done with the guest now, to follow "guest NAME".
_BUSY: Final[dict[Doing, str]] = {
    _D.BOOTING: "is still booting",
    _D.ARRIVING: "is still arriving, pages of it are missing: try again when it runs here",
    _D.RUNNING: "runs here: there is nothing to decide about it",
    _D.MOVING: "is being moved",
    _D.CHECKING: "is being digested: try again in a moment",
    _D.IN_DOUBT: "is paused, the outcome of its move is in doubt: see 'pageferry host resume'",
    _D.ASKING: "is being asked for",
    _D.ENDING: "is being ended",
}


@dataclass(frozen=True, slots=True)
class Doubt:
    """A move whose outcome is unknown, and whom to ask about it.

    Attributes:
        session: The move's, which has ended but can still ask.
        peer: HOST:PORT of the other host, for people.
    """

    session: SourceSession
    peer: str

    @property
    def lacks_pages(self) -> bool:
        """Whether the commit left pages for later, which nobody sends any more."""
        final = self.session.record.precopy.final
        return final is not None and final.missing is not None


@dataclass(slots=True)
class Entry:
    """One guest of the table.

    Attributes:
        name: Unique at this host.
        doing: Changed by `Guests` only.
        guest: None until it is here.
        note: What a person should know about it; empty for nothing.
        doubt: While the outcome of its move is in doubt.
        since_ns: Since when it is here, CLOCK_MONOTONIC ns; until it is, since it was reserved.
    """

    name: str
    doing: Doing
    guest: Guest | None = None
    note: str = ""
    doubt: Doubt | None = None
    since_ns: int = field(default_factory=time.monotonic_ns)

    @property
    def here(self) -> Guest:
        """The guest, in a state which says that it is here."""
        assert self.guest is not None  # noqa: S101
        return self.guest


class Guests:
    """The table, which is also the `GuestRegistry` of guests that arrive.

    Args:
        say: Takes one line for people.
        on_gone: Takes the name of each guest that is no longer here, or never came.
    """

    def __init__(
        self, say: Callable[[str], None], on_gone: Callable[[str], None] = lambda _name: None
    ) -> None:
        self._say = say
        self._on_gone = on_gone
        self._entries: dict[str, Entry] = {}

    @property
    def entries(self) -> list[Entry]:
        """All entries, oldest first; the list is a copy."""
        return list(self._entries.values())

    # -- coming and going ---------------------------------------------------------------------

    def reserve(self, name: str | None, workload: str, doing: Doing) -> Entry:
        """Make a new entry.

        Args:
            name: None makes one of the workload's kind.
            workload: Of the guest; only used to make a name.
            doing: BOOTING or ARRIVING.

        Returns:
            An entry without a guest.

        Raises:
            UsageError: The name is taken, or the host has as many guests as it takes.
        """
        if name is None:
            kind = workload.partition(":")[0]
            name = f"{kind}-{secrets.token_hex(2)}"
        taken = self._entries.get(name)
        if taken is not None:
            raise UsageError(
                f"a guest {name} is here already ({taken.doing}): expected another name"
            )
        if len(self._entries) >= MAX_GUESTS:
            raise UsageError(f"this host has {MAX_GUESTS} guests already, the most that it takes")
        entry = self._entries[name] = Entry(name, doing)
        return entry

    def runs(self, entry: Entry, guest: Guest | None = None) -> None:
        """Note that a guest runs here.

        Args:
            entry: Whatever was being done with it is over.
            guest: The guest, if it has just come; None if it was here already.

        Raises:
            LocalProtocolError: It can't run after what it did.
        """
        if guest is not None:
            entry.guest = guest
            entry.since_ns = time.monotonic_ns()
        self.turn(entry, Doing.RUNNING)
        entry.note, entry.doubt = "", None
        entry.here.watch(to_loop(partial(self._failed, entry)))

    def _failed(self, entry: Entry, error: PageferryError) -> None:
        """Note that a vCPU has failed: the guest is here and does not run."""
        entry.note = str(error)
        self._say(f"guest {entry.name}: {error}")

    def gone(self, entry: Entry) -> None:
        """Remove a guest that is no longer here.

        Args:
            entry: Its guest has been closed, or taken over by somebody else.
        """
        entry.guest = None
        self._entries.pop(entry.name, None)
        self._on_gone(entry.name)

    # -- a registry for the destination agent --------------------------------------------------

    def admit(self, name: str) -> None:
        """Expect a guest that arrives.

        Args:
            name: As its source asks for it.

        Raises:
            UsageError: The name is taken, or the host has as many guests as it takes.
        """
        self.reserve(name, "", Doing.ARRIVING)

    def keep(self, name: str, guest: Guest) -> None:
        """Take over a guest that has arrived.

        Args:
            name: As it was admitted.
            guest: Running.
        """
        self.runs(self._entries[name], guest)
        self._say(f"guest {name} has arrived and runs here")

    def dismiss(self, name: str) -> None:
        """Forget a guest that will not come.

        Args:
            name: As it was admitted.
        """
        self.gone(self._entries[name])

    # -- doing something with one -------------------------------------------------------------

    def find(self, name: str | None) -> Entry:
        """Find a guest.

        Args:
            name: None for the only one.

        Returns:
            Its entry, whatever is being done with it.

        Raises:
            UsageError: There is none of that name, or there is not exactly one.
        """
        if name is not None:
            if name not in self._entries:
                raise UsageError(f"there is no guest {name} here: expected {self._names()}")
            return self._entries[name]
        if len(self._entries) != 1:
            raise UsageError(f"which guest? expected --guest with {self._names()}")
        return next(iter(self._entries.values()))

    def _names(self) -> str:
        return " or ".join(self._entries) or "one to be booted or to arrive first"

    def claim(self, name: str | None, doing: Doing) -> Entry:
        """Begin to do something with a guest.

        Args:
            name: None for the only one.
            doing: What is done with it from now on.

        Returns:
            Its entry, which is the caller's until it turns to RUNNING or IN_DOUBT, or is gone.

        Raises:
            UsageError: There is no such guest, or something else is being done with it.
        """
        entry = self.find(name)
        if doing not in _NEXT[entry.doing]:
            raise UsageError(f"guest {entry.name} {_BUSY[entry.doing]}")
        entry.doing = doing
        return entry

    def turn(self, entry: Entry, doing: Doing) -> None:
        """Move an entry on to its next state.

        Args:
            entry: The caller's.
            doing: Must be able to follow what was done.

        Raises:
            LocalProtocolError: It can't.
        """
        if doing not in _NEXT[entry.doing]:
            raise LocalProtocolError(f"guest {entry.name} can't be {doing} after {entry.doing}")
        entry.doing = doing
