"""What a host does with one of its guests; all of it blocks, except `guest_info`."""

from __future__ import annotations

import time
from collections.abc import Callable

from pageferry.common.config.guest import GuestConfig
from pageferry.common.guest.compiling import compile_kernels
from pageferry.common.guest.machine import Guest
from pageferry.host import messages as m
from pageferry.host.guest_table import Entry


def guest_info(entry: Entry) -> m.GuestInfo:
    """Describe a guest for `list`; cheap.

    Args:
        entry: In any state; its guest may not be here yet.

    Returns:
        What is known; None for the rest.
    """
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


def boot_and_run(order: m.Boot, say: Callable[[str], None]) -> Guest:
    """Boot a guest and run it.

    Args:
        order: Its `config` is what is booted.
        say: Takes one line for people if kernels have to be compiled.

    Returns:
        The running guest; the caller closes it.

    Raises:
        UsageError: The workload is wrong, or memory can't be had.
    """
    compile_kernels(order.config, say)
    guest = Guest(order.config, boot=True)
    try:
        guest.start()
        guest.resume()
    except BaseException:
        guest.close()
        raise
    return guest


def digest_guest(name: str, guest: Guest) -> m.Digested:
    """Pause a guest, digest its memory, and let it run again.

    Args:
        name: For the answer.
        guest: Running; the caller's alone meanwhile.

    Returns:
        The digest, and the step of each vCPU that it belongs to.
    """
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


def resume_guest(guest: Guest) -> None:
    """Let a guest run again that was paused for its hand-over.

    Args:
        guest: Its cache is no longer held.
    """
    guest.hold(False)
    guest.resume()
