"""Which congestion control a connection uses, and whether this host has it. Without numba."""

from __future__ import annotations

import socket
from typing import Final

from pageferry.common.errors import UsageError

DEFAULT_CONGESTION: Final = "cubic"


def need_congestion(name: str) -> None:
    """Check that this host has a congestion control, and lets this user choose it.

    Args:
        name: As Linux calls it; `DEFAULT_CONGESTION` need not be allowed.

    Raises:
        UsageError: If it does not.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        use_congestion(sock, name)


def use_congestion(sock: socket.socket, name: str) -> None:
    """Have a connection use a congestion control.

    Args:
        sock: A TCP socket.
        name: As Linux calls it. Where `DEFAULT_CONGESTION` is not allowed nothing changes.

    Raises:
        UsageError: If the kernel does not have it, or this user may not choose it.
    """
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())
    except PermissionError:
        # The host decides which ones a user without privileges may choose. Our default is no
        # reason to fail there: the connection keeps the host's own, which the report then names.
        if name != DEFAULT_CONGESTION:
            raise UsageError(
                f"--congestion {name}: not allowed to this user (see the host's"
                " net.ipv4.tcp_allowed_congestion_control)"
            ) from None
    except OSError as error:
        raise UsageError(
            f"--congestion {name}: this kernel has no such congestion control ({error.strerror})"
        ) from None
