"""How a session treats its connections, whatever they carry."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from pageferry.common.wire.tls_credentials import ClientTls

STALL_S: Final = 30.0  # default: a peer that neither reads nor says anything so long is gone


class Tap(Protocol):
    """Observer of a session's connections and of what goes over them: for injected faults."""

    def opened(self, sock: socket.socket) -> None:
        """Take note of a connection.

        Args:
            sock: Of a control, bulk or urgent connection; its owner closes it.
        """
        ...

    def outgoing(
        self, sock: socket.socket, frame: Sequence[bytes | memoryview]
    ) -> Sequence[bytes | memoryview]:
        """Return what is sent in place of a frame; called on the thread or loop that sends.

        Args:
            sock: Of the control or bulk connection that it is sent on.
            frame: A whole frame, in pieces.

        Returns:
            The pieces to send: the same ones, changed ones, or what is left of them.
        """
        ...

    def incoming(self, n: int) -> None:
        """Take note of bytes read on a bulk connection; return when reading may go on.

        Args:
            n: How many they were.
        """
        ...


@dataclass(frozen=True, slots=True)
class LinkPolicy:
    """What all connections of a session have in common; made once, passed whole.

    Attributes:
        stall_s: A peer that takes or says nothing for so long counts as gone.
        congestion: TCP congestion control; None: the system's.
        secure: TLS, with these credentials; None: without TLS.
        tap: Sees connections and what goes over them, for injected faults.
    """

    stall_s: float = STALL_S
    congestion: str | None = None
    secure: ClientTls | None = None
    tap: Tap | None = None


DEFAULT: Final = LinkPolicy()
