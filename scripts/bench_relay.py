"""A relay that notes when bytes came: `python -m scripts.bench_relay PORT`.

Says its own port; hands every connection on to PORT; when all of them have ended says
{"t_ns": [...], "bytes": [...]}, one entry a read of what came from the connecting side, all
connections together, in order, CLOCK_MONOTONIC. It reads at once whatever has come, so that what
it sees is how the sender sends.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
import time

READ_BYTES = 1 << 20


class NotingRelay:
    """Serves connections until the last one has ended; the first stays open for a whole session."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._seen: list[tuple[int, int]] = []
        self._changed = threading.Condition()
        self._accepted = 0
        self._pumping = 0

    def serve(self, listener: socket.socket) -> list[tuple[int, int]]:
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        with self._changed:
            self._changed.wait_for(lambda: self._accepted and not self._pumping)
        return sorted(self._seen)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            near, _address = listener.accept()
            far = socket.create_connection(("127.0.0.1", self._port))
            for sock in (near, far):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._changed:
                self._accepted += 1
                self._pumping += 2
            for arguments in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._pump, args=arguments, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, noted: bool) -> None:
        """Until the source ends, whose end is passed on."""
        buffer = memoryview(bytearray(READ_BYTES))
        with contextlib.suppress(OSError):
            while n := source.recv_into(buffer):
                if noted:
                    self._seen.append((time.monotonic_ns(), n))
                sink.sendall(buffer[:n])
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        with self._changed:
            self._pumping -= 1
            self._changed.notify_all()


def main(port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        seen = NotingRelay(port).serve(listener)
    times, sizes = zip(*seen, strict=True) if seen else ((), ())
    print(json.dumps({"t_ns": times, "bytes": sizes}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
