"""A separate seed for each purpose, and which vCPU owns which pages. Nothing here is compiled."""

from __future__ import annotations

from typing import Final

from pageferry.common.config.guest import GuestConfig
from pageferry.common.workload.region import Region

GOLDEN: Final = 0x9E3779B97F4A7C15
MULTIPLIERS: Final = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # of splitmix64, see `rng`

_FILL: Final = 1  # purposes with a separate seed
_REGION: Final = 2


def derive(seed: int, *parts: int) -> int:
    """Derive a separate seed for a purpose.

    Args:
        seed: The seed to derive it from; cut to 64 bits.
        *parts: Numbers that name the purpose, in order; each is cut to 64 bits.

    Returns:
        From 0 to 2**64 - 1; the same on every host.
    """
    mask = 2**64 - 1
    first, second = MULTIPLIERS
    value = seed & mask
    for part in parts:
        value = (value ^ (part & mask)) * GOLDEN + GOLDEN & mask
        value = (value ^ (value >> 30)) * first & mask
        value = (value ^ (value >> 27)) * second & mask
        value ^= value >> 31
    return value


def fill_seed(config: GuestConfig) -> int:
    """Return the seed of memory's initial content.

    Args:
        config: Only `seed` is looked at.

    Returns:
        From 0 to 2**64 - 1.
    """
    return derive(config.seed, _FILL)


def regions(config: GuestConfig) -> list[Region]:
    """Divide a guest among its vCPUs.

    Args:
        config: As asked for; its pages are divided as evenly as possible.

    Returns:
        The i-th vCPU's part of the pages, and of the cache, at index i; together all pages, in
        order.
    """
    cuts = [config.pages * i // config.vcpus for i in range(config.vcpus + 1)]
    return [
        Region(
            vcpu=i,
            vcpus=config.vcpus,
            first_page=cuts[i],
            pages=cuts[i + 1] - cuts[i],
            seed=derive(config.seed, _REGION, i),
            cache=config.cache_part,
        )
        for i in range(config.vcpus)
    ]
