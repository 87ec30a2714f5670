"""`python -m tests.support.dying_threads KIND ARGUMENTS`: pageferry, of which one thread will die.

Each kind of thread raises something that none of ours ever should, once it is at work.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

WORDS: Final = "injected into a thread"


def die(*_arguments: Any, **_options: Any) -> Any:
    raise ZeroDivisionError(f"{WORDS}\nand a second line")


def replace(owner: Any, name: str, *, after: int = 0) -> None:
    """It dies when it is called once more than `after` times."""
    real, left = getattr(owner, name), [after]

    @functools.wraps(real)
    def changed(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        return die() if left[0] < 0 else real(*arguments, **options)

    setattr(owner, name, changed)


def soon(due: Callable[[], bool], act: Callable[[], None]) -> None:
    """`act` once it is `due`, on a thread of the test's own."""

    def wait() -> None:
        while not due():
            time.sleep(0.001)
        act()

    threading.Thread(target=wait, daemon=True).start()


def vcpu() -> None:
    """A vCPU that has run for a while."""
    from pageferry.common.guest import control as c
    from pageferry.common.guest.vcpu import Vcpus

    real = Vcpus._live

    def live(self: Vcpus, index: int) -> None:
        machine = self.machines[index]

        def stop() -> None:
            machine.ctl[c.WANT] = c.STOPPED
            self.wake()

        first = int(machine.state[c.STEPS])
        soon(lambda: int(machine.state[c.STEPS]) > first + 1000, stop)
        real(self, index)
        die()

    Vcpus._live = live  # type: ignore[method-assign]


def fault_handler() -> None:
    """The fault handler, when pages have begun to be missing."""
    from pageferry.dest_agent.postcopy import fault_handler as owner

    real = owner.FaultHandler._live

    def live(self: owner.FaultHandler) -> None:
        def stop() -> None:
            self._ctl.stop = 1
            os.eventfd_write(self._wake_fd, 1)

        soon(lambda: bool(self._ctl.armed), stop)
        real(self)
        die()

    owner.FaultHandler._live = live  # type: ignore[method-assign, assignment]


def _method(where: str, name: str, after: int = 0) -> Callable[[], None]:
    module, _, owner = where.partition(":")

    def patch() -> None:
        found = __import__(module, fromlist=["_"])
        replace(getattr(found, owner) if owner else found, name, after=after)

    return patch


KINDS: Final[dict[str, Callable[[], None]]] = {
    "vcpu": vcpu,
    "fault-handler": fault_handler,
    "fault-handler-at-start": _method(
        "pageferry.dest_agent.postcopy.fault_handler:FaultHandler", "_live"
    ),
    "progress": _method("pageferry.common.terminal.progress:Lines", "_say", 1),
    "bulk-receiver": _method("pageferry.common.wire.bulk_receiver:BulkReceiver", "run"),
    "bulk-receiver-later": _method(
        "pageferry.dest_agent.precopy.page_receiver:PageReceiver", "_deliver", 1
    ),
    "staging": _method("pageferry.dest_agent.postcopy.staging:Staging", "arrived"),
    "destination-worker": _method("pageferry.common.guest.machine:Guest", "restore"),
    "tls-urgent": _method("pageferry.common.wire.tls_threads:_Pump", "_wait"),
    "tls-urgent-later": _method("pageferry.common.wire.tls_threads:_Pump", "_inward", 4),
    "bulk-sender": _method("pageferry.common.wire.bulk_sender:BulkSender", "send_parts"),
    "bulk-keeper": _method("pageferry.common.wire.bulk_sender:BulkSender", "keep_open"),
    "page-server": _method("pageferry.source_agent.postcopy.page_server:PageServer", "_live"),
    "pusher": _method("pageferry.source_agent.postcopy.supply:PageSupply", "push"),
    "squeeze": _method(
        "pageferry.source_agent.precopy.compressing_encoder:CompressingEncoder", "_encode_on_pool"
    ),
    "log-tracker": _method("pageferry.common.guest.dirtylog:DirtyLog", "harvest"),
    "kernel-tracker": _method("pageferry.common.guest.kerneldirty:KernelDirty", "harvest"),
    "probe": _method("pageferry.source_agent.prediction.loopback_probe", "_receive"),
    "control-heart": _method("pageferry.common.wire.messages", "Ping", 20),
}


def main() -> None:
    KINDS[sys.argv.pop(1)]()
    from pageferry.cli import main as command

    command()


if __name__ == "__main__":
    main()
