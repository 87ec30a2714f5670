"""TCP sockets: the options that every connection has, resetting one, and words for its errors."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import ssl
from typing import Final

from pageferry.common.wire import tls
from pageferry.common.wire.congestion import use_congestion

_TCP_RTO_MIN_US: Final = 45  # Python has no names for these two
_TCP_DELACK_MAX_US: Final = 46
_LEAST_TIMER_US: Final = 5_000  # added to the round trip's estimate, which has its own spread


def reset(sock: socket.socket) -> None:
    """Break a connection as a network does: both ends find it reset. From any thread.

    Whoever waits for the socket is woken, and it stays open: its number is not given to another.

    Args:
        sock: TCP, open, with or without TLS.
    """
    # Connecting to "no address" is how Linux lets go of a connection without closing the socket.
    ctypes.CDLL(None).connect(sock.fileno(), bytes(16), 16)


def os_reason(error: OSError) -> str:
    """Return the system's words for an error, without its number and the address tuple.

    Args:
        error: Also one of TLS, of which it says that it is the peer's.

    Returns:
        Words for people.
    """
    if isinstance(error, ssl.SSLError):
        return f"the peer {tls.tls_reason(error)}"
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)


def tune(sock: socket.socket, congestion: str | None, stall_s: float) -> None:
    """Set the options that every connection has.

    Args:
        sock: TCP, connected.
        congestion: TCP congestion control; None: the system's.
        stall_s: After so long unacknowledged bytes break the connection.

    Raises:
        UsageError: If this host does not have that congestion control, or not for this user.
        OSError: If the connection is broken.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A host that vanishes says nothing: idle connections are probed, unacknowledged bytes expire.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(stall_s * 1000))
    if congestion is not None:
        use_congestion(sock, congestion)


def hurry(sock: socket.socket) -> None:
    """Tune a connection on which somebody waits for each answer, as far as this kernel can.

    A lost segment with nothing behind it is sent again when a timer of at least 200 ms has run out,
    and the peer may hold an acknowledgement back for 40 ms, which the timer allows for.

    Args:
        sock: TCP, connected.
    """
    for option in (_TCP_RTO_MIN_US, _TCP_DELACK_MAX_US):
        with contextlib.suppress(OSError):  # kernels from before 2025 lack them
            sock.setsockopt(socket.IPPROTO_TCP, option, _LEAST_TIMER_US)
