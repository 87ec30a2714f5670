"""From a configuration to regions and arrays: who owns which pages and which part of the cache."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.config import GuestConfig
from common.guest.cache import new_entries, stride
from common.guest.control import STATE_WORDS, VcpuArrays, aligned, new_scratch
from common.guest.rng import derive
from common.guest.workloads.base import Plan, Region
from common.units import LINE_SIZE

_FILL: Final = 1  # purposes that have a seed of their own
_REGION: Final = 2


def fill_seed(config: GuestConfig) -> int:
    """Of memory's first content."""
    return derive(config.seed, _FILL)


def regions(config: GuestConfig) -> list[Region]:
    """The i-th part of the pages, and of the cache, is the i-th vCPU's."""
    cuts = [config.pages * i // config.vcpus for i in range(config.vcpus + 1)]
    return [
        Region(
            vcpu=i,
            vcpus=config.vcpus,
            first_page=cuts[i],
            pages=cuts[i + 1] - cuts[i],
            seed=derive(config.seed, _REGION, i),
            cache=config.cache // config.vcpus,
        )
        for i in range(config.vcpus)
    ]


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
