"""`python -m pageferry.net.link_keeper`: the process that makes a link, keeps it, and removes it.

It reads a `LinkSpec` and then commands from standard input, one JSON object a line, and says on
standard output what it did:

    {"point_at": PORT}           where a relay leads                        -> {"pointed_at": PORT}
    {"start": NS}                the schedule began at that monotonic time  -> {"applied": [I, NS]}
    {"stay": MEASURED or null}   keep it up when nobody is there any more   -> {"staying": PID}

Unless it has been told to stay, it ends when its input does, so that a network goes with whoever
wanted it, however that process dies. A signal that asks it to end always ends it. The link ends
with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import sys
import time
from typing import Any, Protocol

from pageferry.common.errors import EXIT_FAILED, EXIT_OK, PageferryError
from pageferry.common.process import signals
from pageferry.net import namespaces, spec, tc
from pageferry.net.measure import LinkMeasurement
from pageferry.net.relay import RelayLink
from pageferry.net.shape import Shape
from pageferry.net.tc import TcLink

_STDIN, _STDOUT, _STDERR = range(3)


class ShapedLink(Protocol):
    """A link that can be kept."""

    def apply(self, shape: Shape, *, outage: bool) -> None:
        """Make the link this from now on.

        Args:
            shape: What both directions are.
            outage: Whether nothing gets through.
        """
        ...

    def counters(self) -> dict[str, dict[str, int]]:
        """Count packets so far.

        Returns:
            Counts by direction, and by what became of the packets; empty where nobody counts.
        """
        ...

    def close(self) -> None:
        """Take the link down."""
        ...


def send_line(key: str, value: Any) -> None:
    """Write one line to standard output, if somebody still listens.

    Args:
        key: What the line is about.
        value: Anything that JSON can express.
    """
    with contextlib.suppress(BrokenPipeError):
        os.write(_STDOUT, (json.dumps({key: value}) + "\n").encode())


class LinkKeeper:
    """Keeps one link, from its making to its removal.

    Args:
        wanted: The link.
        wake_fd: Becomes readable when a signal asks this process to end.
    """

    def __init__(self, wanted: spec.LinkSpec, wake_fd: int) -> None:
        self._wanted = wanted
        self._wake_fd = wake_fd
        self._link: ShapedLink | None = None
        self._state: spec.NetworkState | None = None
        self._pending = b""
        self._stays = False
        self._ended = False
        self._start_ns: int | None = None
        self._next = 0  # the schedule's next moment
        self._failure: PageferryError | None = None
        self._failed_fd = os.eventfd(0, os.EFD_CLOEXEC)

    def _failed(self, error: PageferryError) -> None:
        """Note what has ended the link; called on the link's own thread."""
        self._failure = error
        os.eventfd_write(self._failed_fd, 1)

    def run(self) -> None:
        """Make the link, keep it until it is to end, and remove it.

        Raises:
            UsageError: A network of that name is there already, or this kernel can't shape it so.
            PageferryError: The link could not be made, or has failed; nothing of it is left.
        """
        wanted = self._wanted
        if wanted.kind == "relay":
            relay = RelayLink(wanted.shape, self._failed)
            self._link = relay
            try:
                send_line("ready", {"shaper": "relay", "notice": None, "port": relay.port})
                self._keep()
            finally:
                relay.close()
            return
        namespaces.make(wanted.name)
        try:
            self._make()
            self._keep()
        finally:
            if self._link is not None:
                self._link.close()
            namespaces.remove(wanted.name)
            spec.forget(wanted.name)

    def _make(self) -> None:
        wanted = self._wanted
        has_netem = tc.kernel_has_netem(wanted.name)
        shaper, notice = tc.choose_shaper(
            wanted.shaper, wanted.shape, wanted.moments, has_netem=has_netem
        )
        if shaper == "tc":
            self._link = TcLink(wanted.name, wanted.shape)
        else:
            from pageferry.net.tun import TunLink, offloaded  # numba takes half a second to import

            shapes = [wanted.shape, *(moment.shape for moment in wanted.moments)]
            offloads = offloaded(wanted.offloads, shapes)
            self._link = TunLink(wanted.name, wanted.shape, self._failed, offloads=offloads)
        pid, began = spec.own_beginning()
        self._state = spec.NetworkState(
            spec=wanted, shaper=shaper, notice=notice, pid=pid, began=began
        )
        self._state.save()
        send_line("ready", {"shaper": shaper, "notice": notice})

    def _keep(self) -> None:
        """Obey commands and carry out the schedule until the link is to end.

        Raises what has ended a thread of the link.
        """
        with selectors.DefaultSelector() as selector:
            selector.register(_STDIN, selectors.EVENT_READ)
            selector.register(self._wake_fd, selectors.EVENT_READ)
            selector.register(self._failed_fd, selectors.EVENT_READ)
            while not self._ended:
                for key, _ in selector.select(self._until_next()):
                    if self._failure is not None:
                        raise self._failure
                    if key.fd == self._wake_fd:
                        self._ended = True
                    elif not self._read():
                        selector.unregister(_STDIN)
                        self._ended |= not self._stays
                self._carry_out()
        if self._link is not None:
            send_line("counters", self._link.counters())

    def _until_next(self) -> float | None:
        """Return the seconds until the schedule's next moment; None if there is none."""
        if self._start_ns is None or self._next == len(self._wanted.moments):
            return None
        due_ns = self._start_ns + self._wanted.moments[self._next].at_s * 1e9
        return max(due_ns - time.monotonic_ns(), 0) / 1e9

    def _carry_out(self) -> None:
        while self._until_next() == 0 and not self._ended:
            moment = self._wanted.moments[self._next]
            assert self._link is not None  # noqa: S101
            self._link.apply(moment.shape, outage=moment.outage)
            send_line("applied", [self._next, time.monotonic_ns()])
            self._next += 1

    def _read(self) -> bool:
        """Obey the commands that have come; return False where nobody is there any more."""
        data = os.read(_STDIN, 65536)
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            for key, value in json.loads(line).items():
                self._obey(key, value)
        return bool(data)

    def _obey(self, key: str, value: Any) -> None:
        if key == "start":
            self._start_ns = int(value)
        elif key == "point_at" and isinstance(self._link, RelayLink):
            self._link.point_at(int(value))
            send_line("pointed_at", value)
        elif key == "stay" and self._state is not None:
            measured = None if value is None else LinkMeasurement.model_validate(value)
            self._state = self._state.model_copy(update={"measured": measured})
            self._state.save()
            self._stays = True
            send_line("staying", os.getpid())
            self._let_go()

    @staticmethod
    def _let_go() -> None:
        """Close standard output and error: nobody shall wait for their end as long as we run."""
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (_STDOUT, _STDERR):
            os.dup2(null, fd)
        os.close(null)


def _await_signals() -> int:
    """Turn signals into bytes that can be read, so that nothing is interrupted half-way."""
    read_fd, write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    signals.begin()  # whoever started us blocked them until now
    for number in signals.ours():
        signal.signal(number, lambda _number, _frame: None)
    return read_fd


def main() -> int:
    """Run the process; an error is said as `{"error": [EXIT CODE, MESSAGE]}`.

    Returns:
        The exit code; 0 also where standard input ended before a `LinkSpec` came.
    """
    wake_fd = _await_signals()
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(_STDIN, 1)
        if not byte:
            return EXIT_OK
        line += byte
    try:
        LinkKeeper(spec.LinkSpec.model_validate_json(line), wake_fd).run()
    except PageferryError as error:
        send_line("error", [error.exit_code, str(error)])
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - what it leaves behind has been removed by now
        send_line("error", [EXIT_FAILED, f"the link's keeper failed: {error!r}"])
        return EXIT_FAILED
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
