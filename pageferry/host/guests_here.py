"""What a host does with one of its guests. All of it blocks, but `info`."""

from __future__ import annotations

import time
from collections.abc import Callable

from pageferry.common.config.guest import GuestConfig
from pageferry.common.guest.compiling import compile_kernels
from pageferry.common.guest.machine import Guest
from pageferry.host import messages as m
from pageferry.host.guest_table import Entry


def info(entry: Entry) -> m.GuestInfo:
    """Describe a guest, for `list`; cheap."""
    guest = entry.guest
    config: GuestConfig | None = guest.config if guest is not None else None
    return m.GuestInfo(
        name=entry.name,
        state=entry.doing.value,
        memory=config.memory if config else None,
        vcpus=config.vcpus if config else None,
        workload=config.workload if config else None,
        steps=sum(guest.steps()) if guest is not None else None,
        here_s=(time.monotonic_ns() - entry.since_ns) / 1e9,
        note=entry.note,
    )


def booted(order: m.Boot, say: Callable[[str], None]) -> Guest:
    """Return a new guest that runs. say: one line for people, where it takes long."""
    compile_kernels(order.config, say)
    guest = Guest(order.config, boot=True)
    try:
        guest.start()
        guest.resume()
    except BaseException:
        guest.close()
        raise
    return guest


def digested(name: str, guest: Guest) -> m.Digested:
    """Pause a guest, digest its memory, and let it run again."""
    paused_ns = guest.pause()
    try:
        guest.drain()
        steps, digest, check = list(guest.steps()), guest.digest(), guest.check()
    finally:
        resumed_ns = guest.resume()
    return m.Digested(
        name=name,
        config=guest.config,
        steps=steps,
        digest=digest,
        check=check,
        paused_ms=(resumed_ns - paused_ns) / 1e6,
    )


def go_on(guest: Guest) -> None:
    """Let a guest run again that was paused for its hand-over."""
    guest.hold(False)
    guest.resume()
