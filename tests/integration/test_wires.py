"""Relays that hold, release, refuse and reset: what a peer at either end sees of it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from tests.support.wires import Wire, Wires

PATIENCE_S = 10.0
SILENT_S = 0.2


@pytest.fixture
def ends() -> Iterator[tuple[Wire, socket.socket, socket.socket]]:
    """A wire, and the two ends of a connection through it."""
    wires = Wires()
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        wires.to(server.getsockname()[1]) as wire,
        connected(wire) as near,
    ):
        server.settimeout(PATIENCE_S)
        far, _ = server.accept()
        with far:
            far.settimeout(PATIENCE_S)
            near.sendall(b".")  # the kernel accepts before the relay knows its second end
            assert far.recv(1) == b"."
            yield wire, near, far
    wires.close()


def connected(wire: Wire) -> socket.socket:
    return socket.create_connection(("127.0.0.1", wire.port), PATIENCE_S)


def test_what_is_held_passes_once_it_is_released(
    ends: tuple[Wire, socket.socket, socket.socket],
) -> None:
    wire, near, far = ends
    wire.hold()
    near.sendall(b"there")
    far.sendall(b"back")
    far.settimeout(SILENT_S)
    with pytest.raises(TimeoutError):
        far.recv(100)
    far.settimeout(PATIENCE_S)
    wire.release()
    assert (far.recv(100), near.recv(100)) == (b"there", b"back")


def test_a_reset_is_seen_at_both_ends_and_counts_them(
    ends: tuple[Wire, socket.socket, socket.socket],
) -> None:
    wire, near, far = ends
    began, ended, count = wire.reset()
    assert began <= ended
    assert count == 2
    for end in (near, far):
        with pytest.raises(ConnectionResetError):
            end.recv(100)
    assert wire.reset()[2] == 0


def test_new_connections_are_refused_and_old_ones_stay(
    ends: tuple[Wire, socket.socket, socket.socket],
) -> None:
    wire, near, far = ends
    wire.refuse(True)
    with connected(wire) as other, contextlib.suppress(ConnectionError):
        assert other.recv(100) == b""
    near.sendall(b"still here")
    assert far.recv(100) == b"still here"
