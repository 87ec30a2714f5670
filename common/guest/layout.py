"""From a configuration to the arrays that a vCPU works on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pageferry.common.capacity.exhausted import ran_out
from pageferry.common.config.guest import GuestConfig
from pageferry.common.errors import UsageError
from pageferry.common.guest.cache import new_entries, stride
from pageferry.common.guest.control import STATE_WORDS, VcpuArrays, aligned, new_scratch
from pageferry.common.guest.workloads.base import Plan
from pageferry.common.units import LINE_SIZE, format_size
from pageferry.common.workload.region import Region


def arrays(
    config: GuestConfig,
    region: Region,
    plan: Plan,
    words: NDArray[np.uint64],
    log: NDArray[np.uint64],
    counts: NDArray[np.uint64],
    ctl: NDArray[np.int64],
) -> VcpuArrays:
    """Put together what a vCPU works on: its own cache and registers, all memory, all of the log.

    Args:
        config: Only the cache's geometry is looked at.
        region: The vCPU's part of the guest.
        plan: The workload's constants and table; its pace must be in `ctl` already.
        words: uint64[512 * n_pages], all of guest memory, shared by all vCPUs.
        log: uint64[2 * n_pages], both buffers of the dirty log, shared.
        counts: uint64[2 * n_pages], lines written and written back, shared; empty: not counted.
        ctl: The vCPU's control words, from `new_control`.

    Returns:
        The arrays.

    Raises:
        UsageError: There is no memory for the cache.
    """
    ways = config.cache_ways if config.cache else 0
    sets = region.cache // (config.cache_line * config.cache_ways)
    shift = (config.cache_line // LINE_SIZE).bit_length() - 1
    entries, masks, arena = _new_cache(config, sets, ways, shift, words)
    return VcpuArrays(
        ctl=ctl,
        state=aligned(STATE_WORDS, np.uint64),
        params=plan.params(region),
        table=plan.table,
        words=words,
        log=log,
        counts=counts,
        entries=entries,
        masks=masks,
        arena=arena,
        scratch=new_scratch(),
        ways=ways,
        stride=stride(ways),
        sets=sets,
        shift=shift,
    )


def _new_cache(
    config: GuestConfig, sets: int, ways: int, shift: int, words: NDArray[np.uint64]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]:
    """Allocate entries, masks and arena of a cache. Raises `UsageError`: there is no memory."""
    lines = sets * ways
    try:
        entries = new_entries(sets, ways)
        masks = aligned(lines if shift else 0, np.uint64)
        arena = aligned(lines * config.cache_line // 8, np.uint64) if ways else words
    except MemoryError as error:
        cache = format_size(config.cache)
        raise UsageError(f"no {cache} of the guest's cache (--cache): {ran_out(error)}") from None
    return entries, masks, arena
