"""How a session treats its connections, whatever they carry."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from pageferry.common.wire.tls import ClientTls

STALL_S: Final = 30.0  # by default a peer that neither reads nor says anything so long is gone


class Tap(Protocol):
    """Sees a session's connections, and what is sent and read on them: for injected faults."""

    def opened(self, sock: socket.socket) -> None:
        """A connection."""
        ...

    def outgoing(
        self, sock: socket.socket, frame: Sequence[bytes | memoryview]
    ) -> Sequence[bytes | memoryview]:
        """What is sent in place of this frame."""
        ...

    def incoming(self, n: int) -> None:
        """So many bytes of bulk frames were read; returns when reading may go on."""
        ...


@dataclass(frozen=True, slots=True)
class LinkPolicy:
    """What all connections of a session have in common; made once, passed whole.

    Attributes:
        stall_s: a peer that takes or says nothing for so long is taken for gone.
        congestion: TCP congestion control; None: the system's.
        secure: over TLS, or nothing is said.
        tap: sees connections and what goes over them, for injected faults.
    """

    stall_s: float = STALL_S
    congestion: str | None = None
    secure: ClientTls | None = None
    tap: Tap | None = None


DEFAULT: Final = LinkPolicy()
