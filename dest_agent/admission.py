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
from pageferry.common.wire.connection import Connection
from pageferry.common.wire.messages import Hello

MAX_SESSIONS: Final = 4
# Whose memory it is. Guest names come from peers, and must not pass for session ids.
_Who = tuple[Literal["session", "guest"], str]


@dataclass(frozen=True, slots=True)
class Credentials:
    """What ties the connections of a session together, as its first connection showed it.

    Attributes:
        token: The session's secret, from the hello.
        certificate: Digest of the peer's certificate; None without TLS.
    """

    token: str = field(repr=False)
    certificate: bytes | None = None

    @classmethod
    def of(cls, hello: Hello, connection: Connection) -> Credentials:
        """Read the credentials that a connection shows.

        Args:
            hello: The one that came on this connection.
            connection: Its TLS handshake, if any, is done.

        Returns:
            The credentials, not compared with any others yet.
        """
        return cls(hello.token, connection.peer_certificate)

    def admit(self, hello: Hello, connection: Connection) -> bool:
        """Return whether a connection is of the same peer.

        How long that takes reveals nothing about the token.

        Args:
            hello: The one that came on this connection.
            connection: Its TLS handshake, if any, is done.

        Returns:
            Whether both token and certificate are the same.
        """
        shown = Credentials.of(hello, connection)
        same_token = hmac.compare_digest(self.token, shown.token)
        return same_token & (self.certificate == shown.certificate)


class MemoryBudget:
    """The memory of all guests of one destination, booked before any of it is taken.

    Memory is booked by a session under its id, or by a guest that stays here under its name.

    Args:
        limit: Bytes of all guests together, caches included; None is what the host has free.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._booked: dict[_Who, int] = {}
        self._before = 0  # bytes that this process had touched before anything was booked

    def book(self, session: str, guest: GuestConfig) -> None:
        """Book memory for a guest that is about to come.

        Args:
            session: Id of the session that brings it.
            guest: Its memory and cache are what is booked.

        Raises:
            UsageError: It does not fit beside the others.
        """
        self._book(("session", session), guest)

    def book_guest(self, name: str, guest: GuestConfig) -> None:
        """Book memory for a guest that is booted here.

        Args:
            name: The guest's, for `release_guest`.
            guest: Its memory and cache are what is booked.

        Raises:
            UsageError: It does not fit beside the others.
        """
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
        # Memory that is booked but not touched yet still looks free.
        untouched = max(booked - max(touched_bytes() - self._before, 0), 0)
        check_guest(guest, beside=untouched, compiled=is_compiled(guest.workload))
        self._booked[who] = size

    def keep(self, session: str, name: str) -> None:
        """Pass what a session has booked to its guest, which outlives the session.

        Args:
            session: Its id; nothing happens if it has booked nothing.
            name: The guest's, for `release_guest`.
        """
        if ("session", session) in self._booked:
            self._booked["guest", name] = self._booked.pop(("session", session))

    def release(self, session: str) -> None:
        """Note that a session's memory has been given back; idempotent.

        Args:
            session: Its id.
        """
        self._booked.pop(("session", session), None)

    def release_guest(self, name: str) -> None:
        """Note that the memory of a guest that stayed here has been given back; idempotent.

        Args:
            name: As it was booked or kept.
        """
        self._booked.pop(("guest", name), None)
