"""A network for as long as it is wanted: its keeper's process, as seen by whoever started it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from typing import Any, Final, Self

from pageferry.common.capacity.oom import OomWatch, how_ended
from pageferry.common.errors import EXIT_USAGE, CancelledByUser, PageferryError, UsageError
from pageferry.common.process import signals
from pageferry.common.process.python_command import python_command
from pageferry.net import namespaces, spec
from pageferry.net.enter import inside
from pageferry.net.measure import LinkMeasurement, measure_link

_ENDING_S: Final = 15.0  # a keeper is given this long to remove everything, then SIGKILL
_LOOPBACK: Final = "127.0.0.1"


class NetworkLink:
    """A network that is made when this is entered, and removed at the end, whatever happens.

    Entering raises `UsageError`, `CancelledByUser` (a signal came meanwhile) and `PageferryError`;
    then nothing is left of it.

    Args:
        wanted: The link.

    Attributes:
        spec: The link as it was asked for.
        shaper: What shapes it: `tc`, `tun` or `relay`; empty until it is up.
        notice: What the user must know about the choice of the shaper, or None.
        measured: What it was measured to carry before it was used; None until then.
        applied_ns: When a moment of the schedule came true (CLOCK_MONOTONIC), by its index. All are
            known after `close`.
        failure: What ended the keeper before its time; None if nothing did.
        counters: Packets by direction and by what became of them; known after `close`, empty
            without a userspace link.
        start_ns: When the schedule began (CLOCK_MONOTONIC); None before.
    """

    def __init__(self, wanted: spec.LinkSpec) -> None:
        self.spec = wanted
        self.shaper = ""
        self.notice: str | None = None
        self.measured: LinkMeasurement | None = None
        self.applied_ns: dict[int, int] = {}  # by index of the schedule's moments
        self.failure: str | None = None  # what ended the keeper before its time
        self.counters: dict[str, dict[str, int]] = {}
        self.start_ns: int | None = None
        self._code = 0
        self._port = 0
        self._measuring = False
        self._process: subprocess.Popen[bytes] | None = None
        self._oom: OomWatch | None = None

    def __enter__(self) -> Self:
        try:
            with signals.raising(self._wake) as check:
                self._make(check)
        except KeyboardInterrupt:
            self.close()
            raise CancelledByUser(
                "cancelled while the network was being made: no guest had been started"
            ) from None
        except BaseException:
            self.close()
            raise
        return self

    def _wake(self) -> None:
        """Make the wait for the keeper fail; a measurement is left alone, as it is soon over."""
        if not self._measuring and self._process is not None:
            self._process.terminate()

    def _make(self, check: Callable[[], None]) -> None:
        self._oom = OomWatch()
        with signals.blocked():
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                python_command("pageferry.net.link_keeper"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for us: we know what must end first
            )
        self._tell(self.spec.model_dump_json())
        ready = self._wait_for("ready")
        self.shaper, self.notice = ready["shaper"], ready["notice"]
        self._port = ready.get("port", 0)
        self._measuring = True
        check()
        self.measured = self._measure(check)

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, start_ns: int) -> None:
        """Start the schedule; only the first call counts.

        Args:
            start_ns: When it began, CLOCK_MONOTONIC.
        """
        if self.start_ns is None:
            self.start_ns = start_ns
            with contextlib.suppress(PageferryError):  # the migration over it will notice
                self._tell(json.dumps({"start": start_ns}))

    def point_at(self, port: int) -> str:
        """Give the address at which the source reaches the destination; a relay is pointed at it.

        Args:
            port: The port on which the destination listens.

        Returns:
            HOST:PORT for the source.

        Raises:
            PageferryError: The keeper has ended.
        """
        if self.spec.kind == "namespaces":
            return f"{namespaces.ADDRESS['dst']}:{port}"
        self._tell(json.dumps({"point_at": port}))
        self._wait_for("pointed_at")
        return f"{_LOOPBACK}:{self._port}"

    def stay(self) -> None:
        """Start the schedule, and leave the network up after the end of this process.

        Raises:
            PageferryError: The keeper has ended.
        """
        self._tell(json.dumps({"start": time.monotonic_ns()}))
        measured = self.measured.model_dump() if self.measured else None
        self._tell(json.dumps({"stay": measured}))
        self._wait_for("staying")
        process, self._process = self._process, None
        assert process is not None  # noqa: S101
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        process.returncode = 0  # it keeps running: nobody waits for it

    def close(self) -> None:
        """Remove the network, and collect what its keeper said to the end; can be called again."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None  # noqa: S101
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            self._finish(process)
        finally:
            if process.returncode and self.spec.kind == "namespaces" and self.shaper:
                namespaces.remove(self.spec.name)
                spec.forget(self.spec.name)

    def _finish(self, process: subprocess.Popen[bytes]) -> None:
        try:
            process.wait(_ENDING_S)  # what it says meanwhile fits into the pipe
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None  # noqa: S101
        with process.stdout:
            for line in process.stdout:
                self._note(json.loads(line))

    def _note(self, said: dict[str, Any]) -> None:
        if "applied" in said:
            index, when_ns = said["applied"]
            self.applied_ns[index] = when_ns
        self.counters = said.get("counters", self.counters)
        if "error" in said:
            self._code, self.failure = said["error"]

    def _tell(self, line: str) -> None:
        assert self._process is not None  # noqa: S101
        assert self._process.stdin is not None  # noqa: S101
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PageferryError(self._end()) from None

    def _wait_for(self, key: str) -> Any:
        assert self._process is not None  # noqa: S101
        assert self._process.stdout is not None  # noqa: S101
        for line in self._process.stdout:
            said = json.loads(line)
            if key in said:
                return said[key]
            self._note(said)
        raise (UsageError if self._code == EXIT_USAGE else PageferryError)(
            self.failure or self._end()
        )

    def _end(self) -> str:
        """Say what is known of the keeper's end."""
        assert self._process is not None  # noqa: S101
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)  # its pipes are closed already
        code = self._process.returncode
        how = None if code is None or self._oom is None else how_ended(code, self._oom)
        return "the link's keeper has ended" if how is None else f"the link's keeper: {how}"

    def _measure(self, check: Callable[[], None]) -> LinkMeasurement:
        there, here = self._at("dst"), self._at("src")
        host = namespaces.ADDRESS["dst"] if self.spec.kind == "namespaces" else _LOOPBACK
        with there(lambda: socket.create_server((host, 0))) as listener:
            address, _, port = self.point_at(listener.getsockname()[1]).rpartition(":")

            def dial() -> socket.socket:
                return here(lambda: socket.create_connection((address, int(port)), timeout=30))

            return measure_link(listener, dial, check)

    def _at(self, end: namespaces.End) -> Callable[[Callable[[], socket.socket]], socket.socket]:
        if self.spec.kind == "relay":
            return lambda work: work()
        return lambda work: inside(namespaces.namespace(self.spec.name, end), work)


def end_keeper(name: str) -> bool:
    """End the process that keeps a network, and wait for its end: SIGTERM, then SIGKILL.

    Args:
        name: Name of the network.

    Returns:
        Whether there was such a process.
    """
    state = spec.load_state(name)
    if state is None or not state.alive:
        return False
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(state.pid, number)
        deadline = time.monotonic() + _ENDING_S
        while state.alive and time.monotonic() < deadline:
            time.sleep(0.02)
        if not state.alive:
            break
    return True
