"""The part of a guest that one vCPU works on."""

from __future__ import annotations

from dataclasses import dataclass

from pageferry.common.units import PAGE_SIZE


@dataclass(frozen=True)
class Region:
    """The part of the guest that one vCPU owns.

    Attributes:
        vcpu: The vCPU's number, from 0.
        vcpus: How many the guest has.
        first_page: The number of the region's first page in the guest.
        pages: Pages of the region.
        seed: The vCPU's own, from 0 to 2**64 - 1.
        cache: Bytes of its cache; 0: none.
    """

    vcpu: int
    vcpus: int
    first_page: int
    pages: int
    seed: int
    cache: int


def visits_per_s(rate_Bps: float, region: Region) -> float:
    """Convert a workload's rate to page visits of one vCPU.

    Args:
        rate_Bps: Of all vCPUs together, a visit counting as a whole page; may be infinite.
        region: The vCPU's part of the guest; only `vcpus` is looked at.

    Returns:
        Visits a second.
    """
    return rate_Bps / PAGE_SIZE / region.vcpus
