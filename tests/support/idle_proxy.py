"""A proxy that forgets connections on which nothing goes, as many of them do. Nothing of ours."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator


class IdleProxy:
    """Forwards to a port of loopback. A connection is ended once it has been idle for `idle_s`

    in either direction: for a NAT each direction is a flow of its own. cuts: how many were.
    """

    def __init__(self, port: int, idle_s: float) -> None:
        self._to = port
        self._idle_s = idle_s
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        self.cuts = 0
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._ends += [near, far]
                threading.Thread(target=self._forward, args=(near, far), daemon=True).start()
                threading.Thread(target=self._forward, args=(far, near), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        ready = (
            select.poll()
        )  # and no time limit of a socket's, of which there is one for both ways
        ready.register(source.fileno(), select.POLLIN)
        try:
            while ready.poll(self._idle_s * 1000):
                data = source.recv(65536)
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)
            self.cuts += 1
        except OSError:
            pass
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End all that is left."""
        for end in (self._listener, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextlib.contextmanager
def idle_proxy(port: int, idle_s: float = 2.0) -> Iterator[IdleProxy]:
    """To that port; `port` is its own."""
    proxy = IdleProxy(port, idle_s)
    try:
        yield proxy
    finally:
        proxy.close()
