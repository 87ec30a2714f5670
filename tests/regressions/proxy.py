"""A proxy that forgets connections on which nothing goes, as many of them do. Nothing of ours."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator


class IdleProxy:
    """Forwards to a port of loopback. A connection is reset once it has been idle for `idle_s`

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
        source.settimeout(self._idle_s)
        try:
            while data := source.recv(65536):
                before = time.monotonic()
                sink.settimeout(None)
                sink.sendall(data)
                # A peer that does not read is not idle, and neither is who waits for it.
                source.settimeout(self._idle_s + time.monotonic() - before)
            sink.shutdown(socket.SHUT_WR)
        except TimeoutError:
            self.cuts += 1
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    end.shutdown(socket.SHUT_RDWR)
                    end.close()
        except OSError:
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
