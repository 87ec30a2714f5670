"""The part of a guest that one vCPU works on."""

from __future__ import annotations

from dataclasses import dataclass

from pageferry.common.units import PAGE_SIZE


@dataclass(frozen=True)
class Region:
    """The part of the guest that one vCPU owns. cache: bytes of its cache."""

    vcpu: int
    vcpus: int
    first_page: int
    pages: int
    seed: int
    cache: int


def visits_per_s(rate_Bps: float, region: Region) -> float:
    """Page visits a second of one vCPU."""
    return rate_Bps / PAGE_SIZE / region.vcpus
