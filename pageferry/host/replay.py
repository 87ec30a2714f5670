"""What a guest must be at a given step: a fresh one of its configuration, run as far."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pageferry.common.capacity.agents import check_guest
from pageferry.common.config.guest import GuestConfig
from pageferry.common.guest.compiling import compile_kernels, is_compiled
from pageferry.common.guest.machine import Guest


def replay_from_boot(
    config: GuestConfig, steps: Sequence[int], notify: Callable[[str], None] | None = None
) -> str:
    """Run a fresh guest to these steps and digest it; blocks.

    Args:
        config: Of the guest to compare with.
        steps: Of each vCPU.
        notify: Told in one line before kernels are compiled, which takes a while; None for nobody.

    Returns:
        The digest of memory and registers, hexadecimal.

    Raises:
        UsageError: The guest does not fit here.
    """
    check_guest(config, compiled=is_compiled(config.workload))
    compile_kernels(config, notify)
    guest = Guest(config, boot=True)
    try:
        guest.start()
        guest.run_until(steps)
        guest.drain()
        return guest.digest()
    finally:
        guest.close()
