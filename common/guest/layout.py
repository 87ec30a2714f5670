"""From a configuration to the arrays that a vCPU works on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.config import GuestConfig
from common.guest.cache import new_entries, stride
from common.guest.control import STATE_WORDS, VcpuArrays, aligned, new_scratch
from common.guest.workloads.base import Plan
from common.units import LINE_SIZE
from common.workload.region import Region


def arrays(
    config: GuestConfig,
    region: Region,
    plan: Plan,
    words: NDArray[np.uint64],
    log: NDArray[np.uint64],
    counts: NDArray[np.uint64],
    ctl: NDArray[np.int64],
) -> VcpuArrays:
    """What the region's vCPU works on: its own cache and registers, all memory, all of the log."""
    ways = config.cache_ways if config.cache else 0
    sets = region.cache // (config.cache_line * config.cache_ways)
    shift = (config.cache_line // LINE_SIZE).bit_length() - 1
    return VcpuArrays(
        ctl=ctl,
        state=aligned(STATE_WORDS, np.uint64),
        params=plan.params(region),
        table=plan.table,
        words=words,
        log=log,
        counts=counts,
        entries=new_entries(sets, ways),
        masks=aligned(sets * ways if shift else 0, np.uint64),
        arena=aligned(sets * ways * config.cache_line // 8, np.uint64) if ways else words,
        scratch=new_scratch(),
        ways=ways,
        stride=stride(ways),
        sets=sets,
        shift=shift,
    )
