"""What a guest must be at a given step: a fresh one of its configuration, run as far."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pageferry.common.capacity.agents import check_guest
from pageferry.common.config.guest import GuestConfig
from pageferry.common.guest.compiling import compile_kernels, is_compiled
from pageferry.common.guest.machine import Guest


def replay(
    config: GuestConfig, steps: Sequence[int], notify: Callable[[str], None] | None = None
) -> str:
    """The digest at these steps of each vCPU; `notify`: see `compile_kernels`.

    Raises `UsageError` where it does not fit here.
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
