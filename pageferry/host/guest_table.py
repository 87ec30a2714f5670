"""The guests of a host: their names, and what is being done with each.

A guest that something is being done with is nobody else's meanwhile: a guest has one controlling
thread at a time, and at most one session.

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
# Why nothing else can be done with it now, as "guest NAME ...".
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
    """A move whose outcome is unknown, and whom to ask about it. peer: HOST:PORT, for people."""

    session: SourceSession
    peer: str

    @property
    def lacks_pages(self) -> bool:
        """Whether the commit left pages for later, which nobody sends any more."""
        final = self.session.record.precopy.final
        return final is not None and final.missing is not None


@dataclass(slots=True)
class Entry:
    """One guest. guest: None until it is here. note: what a person should know of it."""

    name: str
    doing: Doing
    guest: Guest | None = None
    note: str = ""
    doubt: Doubt | None = None
    since_ns: int = field(default_factory=time.monotonic_ns)

    @property
    def here(self) -> Guest:
        """The guest, of which the state says that it is here."""
        assert self.guest is not None  # noqa: S101
        return self.guest


class Guests:
    """The table; also the `Keeper` of the guests that arrive. say: one line for people; on_gone:
    told the name of each guest that is no longer here."""

    def __init__(
        self, say: Callable[[str], None], on_gone: Callable[[str], None] = lambda _name: None
    ) -> None:
        self._say = say
        self._on_gone = on_gone
        self._entries: dict[str, Entry] = {}

    @property
    def entries(self) -> list[Entry]:
        """All of them, oldest first."""
        return list(self._entries.values())

    # -- coming and going ---------------------------------------------------------------------

    def reserve(self, name: str | None, workload: str, doing: Doing) -> Entry:
        """A new entry; without a name it gets one. Raises `UsageError` where it can't be had."""
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
        """It runs here; `guest` where it has just come."""
        if guest is not None:
            entry.guest = guest
            entry.since_ns = time.monotonic_ns()
        self.turn(entry, Doing.RUNNING)
        entry.note, entry.doubt = "", None
        entry.here.watch(to_loop(partial(self._failed, entry)))

    def _failed(self, entry: Entry, error: PageferryError) -> None:
        """A vCPU of it is no more: it is here, and does not run."""
        entry.note = str(error)
        self._say(f"guest {entry.name}: {error}")

    def gone(self, entry: Entry) -> None:
        """It is no longer here; who says so has released it."""
        entry.guest = None
        self._entries.pop(entry.name, None)
        self._on_gone(entry.name)

    # -- a keeper for the destination agent ---------------------------------------------------

    def admit(self, name: str) -> None:
        """A guest is about to come. Raises `UsageError`."""
        self.reserve(name, "", Doing.ARRIVING)

    def keep(self, name: str, guest: Guest) -> None:
        """It has come."""
        self.runs(self._entries[name], guest)
        self._say(f"guest {name} has arrived and runs here")

    def dismiss(self, name: str) -> None:
        """It will not come."""
        self.gone(self._entries[name])

    # -- doing something with one -------------------------------------------------------------

    def find(self, name: str | None) -> Entry:
        """The guest of that name, or the only one. Raises `UsageError`."""
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
        """Begin to do this with it. Raises `UsageError` where something else is being done."""
        entry = self.find(name)
        if doing not in _NEXT[entry.doing]:
            raise UsageError(f"guest {entry.name} {_BUSY[entry.doing]}")
        entry.doing = doing
        return entry

    def turn(self, entry: Entry, doing: Doing) -> None:
        """It has come to this. Raises `LocalProtocolError` for what can't follow."""
        if doing not in _NEXT[entry.doing]:
            raise LocalProtocolError(f"guest {entry.name} can't be {doing} after {entry.doing}")
        entry.doing = doing
