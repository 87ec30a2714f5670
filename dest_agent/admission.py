"""What a destination checks before it believes a peer, or takes memory for one."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import Final, Literal

from pageferry.common.capacity.agents import check_guest
from pageferry.common.capacity.memory import touched_bytes
from pageferry.common.config.guest import GuestConfig
from pageferry.common.errors import UsageError
from pageferry.common.guest.compiling import is_compiled
from pageferry.common.units import format_size
from pageferry.common.wire.channel import Connection
from pageferry.common.wire.messages import Hello

MAX_SESSIONS: Final = 4
# Whose memory it is: names come from peers, and must not be taken for a session's.
_Who = tuple[Literal["session", "guest"], str]


@dataclass(frozen=True, slots=True)
class Credentials:
    """What binds the connections of a session together; the first one of them brought it.

    certificate: the peer's, as a digest; null without TLS.
    """

    token: str = field(repr=False)
    certificate: bytes | None = None

    @classmethod
    def of(cls, hello: Hello, connection: Connection) -> Credentials:
        """As a connection shows them."""
        return cls(hello.token, connection.peer_certificate)

    def admit(self, hello: Hello, connection: Connection) -> bool:
        """Whether this connection is of the same peer. How long it takes says nothing."""
        shown = Credentials.of(hello, connection)
        same_token = hmac.compare_digest(self.token, shown.token)
        return same_token & (self.certificate == shown.certificate)


class MemoryBudget:
    """The memory of all guests of one destination, booked before any of it is taken.

    limit: bytes of all guests together, their caches included; None: what the host has free. Who
    has booked is a session by its id, or a guest that is here to stay by its name.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._booked: dict[_Who, int] = {}
        self._before = 0  # what this process had touched when nobody had booked anything

    def book(self, session: str, guest: GuestConfig) -> None:
        """For a guest that comes. Raises `UsageError` where it does not fit beside the others."""
        self._book(("session", session), guest)

    def book_guest(self, name: str, guest: GuestConfig) -> None:
        """For one that is booted here. Raises `UsageError`."""
        self._book(("guest", name), guest)

    def _book(self, who: _Who, guest: GuestConfig) -> None:
        size = guest.memory + guest.cache
        booked = sum(self._booked.values())
        if self._limit is not None and booked + size > self._limit:
            others = f" beside {format_size(booked)} of others" if booked else ""
            raise UsageError(
                f"a guest of {format_size(guest.memory)} with its cache of"
                f" {format_size(guest.cache)} is over this destination's --max-memory"
                f" {format_size(self._limit)}{others}"
            )
        if not self._booked:
            self._before = touched_bytes()
        # What is booked and has not been touched yet still looks free.
        untouched = max(booked - max(touched_bytes() - self._before, 0), 0)
        check_guest(guest, beside=untouched, compiled=is_compiled(guest.workload))
        self._booked[who] = size

    def keep(self, session: str, name: str) -> None:
        """A session's guest stays here when the session has ended, under its own name."""
        if ("session", session) in self._booked:
            self._booked["guest", name] = self._booked.pop(("session", session))

    def release(self, session: str) -> None:
        """Its memory has been given back; idempotent."""
        self._booked.pop(("session", session), None)

    def release_guest(self, name: str) -> None:
        """Likewise."""
        self._booked.pop(("guest", name), None)
