"""Compiling a guest's kernels before anything waits for them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pageferry.common.config.guest import GuestConfig
from pageferry.common.guest import jit
from pageferry.common.guest.machine import Guest
from pageferry.common.terminal.progress import COMPILING
from pageferry.common.units import PAGE_SIZE
from pageferry.common.workload.registry import parse_workload


def is_compiled(workload: str) -> bool:
    """Check whether this kind of workload has been compiled on this host before.

    Args:
        workload: A workload's text, `NAME[:key=value,...]`.

    Returns:
        Whether the store has any kernel of its module.

    Raises:
        WorkloadError: The text is wrong.
    """
    module, _, _ = parse_workload(workload).spec.made_by.partition(":")
    return jit.STORE.has_any_of(module)


def compile_kernels(config: GuestConfig, notify: Callable[[str], None] | None = None) -> None:
    """Compile, or load, everything that a guest of this configuration runs, by running a tiny one.

    Args:
        config: Its workload says which kernels; memory, vCPUs and cache do not matter.
        notify: Told in one line before something has to be compiled, which takes a while: once for
            each kind of workload after an installation, if the code can be kept.

    Raises:
        UsageError: The workload is wrong, or the tiny guest gets no memory.
    """
    chosen = parse_workload(config.workload)
    name, mix = chosen.name, chosen.mix
    smallest = name if mix is None else f"{name}:lines={mix}"
    text = smallest if chosen.spec.complete else config.workload
    tiny = GuestConfig(memory=64 * PAGE_SIZE, workload=text, seed=config.seed, cache=64 * 1024)

    def announce() -> None:
        if notify is not None:
            often = "first start only" if jit.STORE.writable else "they can't be kept"
            notify(f"{COMPILING} for {name} ({often})")

    with jit.before_compiling(announce):
        _run_all(tiny)


def _run_all(tiny: GuestConfig) -> None:
    guest = Guest(tiny, boot=True)
    try:
        guest.memory.zero_pages(np.arange(guest.n_pages))
        guest.start()
        guest.run_until([64])
        guest.drain()
        guest.cached_dirty()
        guest.harvest()
        guest.digest()
        guest.check()
        guest.progress()
    finally:
        guest.close()
