"""QEMU's machine protocol, as much of it as a migration needs: a blocking client.

One JSON object a line. The server greets, and takes `qmp_capabilities` first; then every command
has one answer, and events come at any time in between.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from pageferry.common.errors import PageferryError

ANSWER_S = 60.0


@dataclass(frozen=True)
class QmpEvent:
    """t_s: seconds since the epoch, by QEMU's clock, which is the host's."""

    name: str
    t_s: float
    data: dict[str, Any] = field(default_factory=dict)


class Qmp:
    """One connection, ready for commands. Raises `PageferryError` where the other end is no QMP."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(ANSWER_S)
        self._sock = sock
        self._buffer = b""
        self.events: list[QmpEvent] = []
        if "QMP" not in self._next():
            raise PageferryError("what was expected to be QEMU does not greet")
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: Any) -> Any:
        """Its answer. An underscore in an argument's name is a hyphen there.

        Raises `PageferryError` with QEMU's words where it refuses.
        """
        settled = {name.replace("_", "-"): value for name, value in arguments.items()}
        request = {"execute": command, "arguments": settled}
        try:
            self._sock.sendall(json.dumps(request).encode() + b"\r\n")
        except ConnectionError:
            raise PageferryError("QEMU has ended") from None
        while True:
            try:
                message = self._next()
            except TimeoutError:
                raise PageferryError(f"QEMU, {command}: no answer for {ANSWER_S:g} s") from None
            if "return" in message:
                return message["return"]
            if "error" in message:
                raise PageferryError(f"QEMU, {command}: {message['error']['desc']}")
            self._keep(message)

    def wait(self, seconds: float) -> None:
        """Keep the events that come meanwhile; returns with the first, or when the time is over."""
        before = len(self.events)
        deadline = time.monotonic() + seconds
        try:
            while len(self.events) == before and (left := deadline - time.monotonic()) > 0:
                self._sock.settimeout(left)
                self._keep(self._next())
        except TimeoutError:
            pass
        finally:
            self._sock.settimeout(ANSWER_S)

    def first(self, name: str, statuses: Collection[str] = ()) -> QmpEvent | None:
        """The first event of this name, with one of these statuses if it has any."""
        for event in self.events:
            if event.name == name and (not statuses or event.data.get("status") in statuses):
                return event
        return None

    def _keep(self, message: dict[str, Any]) -> None:
        if "event" in message:
            at = message["timestamp"]
            t_s = at["seconds"] + at["microseconds"] / 1e6
            self.events.append(QmpEvent(message["event"], t_s, message.get("data", {})))

    def _next(self) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            try:
                data = self._sock.recv(65536)
            except ConnectionError:
                data = b""
            if not data:
                raise PageferryError("QEMU has ended")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def close(self) -> None:
        self._sock.close()
