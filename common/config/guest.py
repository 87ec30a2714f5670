"""The guest: what both agents must agree on."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from pageferry.common.command_line.options import Options
from pageferry.common.config.fields import Size
from pageferry.common.units import LINE_SIZE, PAGE_SIZE, format_size

_CACHE: Final = 4 * 2**20


class GuestConfig(Options):
    """Everything that, with a step count, determines every byte of a guest."""

    memory: Annotated[Size, Field(ge=PAGE_SIZE, le=2**44, description="SIZE of guest memory")] = (
        2**30
    )
    vcpus: Annotated[int, Field(ge=1, le=64, description="number of vCPU threads")] = 1
    workload: Annotated[
        str,
        Field(
            max_length=512,
            description="what the guest does: NAME[:key=value,...], see pageferry workload list",
        ),
    ] = "idle"
    seed: Annotated[
        int, Field(ge=0, le=2**63 - 1, description="seed of the guest's memory and workload")
    ] = 1
    cache: Annotated[
        Size,
        Field(
            ge=0, le=2**36, description="SIZE of the write-back cache, all vCPUs together; 0: none"
        ),
    ] = _CACHE
    cache_line: Annotated[
        Size, Field(ge=LINE_SIZE, le=PAGE_SIZE, description="bytes of a cache line")
    ] = LINE_SIZE
    cache_ways: Annotated[int, Field(ge=1, le=64, description="ways of a cache set")] = 16

    @property
    def pages(self) -> int:
        """Number of 4 KiB pages."""
        return self.memory // PAGE_SIZE

    @model_validator(mode="after")
    def _geometry(self) -> Self:
        """Refuse sizes that no guest can have."""
        if self.memory % PAGE_SIZE:
            raise ValueError(
                f"--memory {self.memory} is not a whole number of {PAGE_SIZE}-byte pages: expected"
                f" something like {format_size(_binary(self.memory))}"
            )
        if self.pages < 16 * self.vcpus:
            raise ValueError(
                f"--memory {format_size(self.memory)} is too small for {self.vcpus} vCPU(s):"
                f" expected at least {format_size(16 * self.vcpus * PAGE_SIZE)}"
            )
        if self.cache_line & (self.cache_line - 1):
            raise ValueError(
                f"--cache-line {self.cache_line} is not a power of two: expected one from 64 to"
                " 4096"
            )
        if self.cache:
            self._cache_geometry()
        return self

    def _cache_geometry(self) -> None:
        """Refuse a cache that can't be divided among the vCPUs.

        A vCPU's part must be a power of two of sets: a line number is masked to find its set. The
        default, and a size that one vCPU could have, are divided as far as possible. Any other size
        was chosen for its figure: for it, sizes are suggested that divide without a remainder.
        """
        way = self.cache_line * self.cache_ways
        exact = _power_of_two(self.cache, way * self.vcpus)
        divided = _power_of_two(self.cache, way) or self.cache == _CACHE
        if exact or (divided and self.cache_part):
            return
        sets = self.cache // (way * self.vcpus)
        smaller = way * self.vcpus << max(sets.bit_length() - 1, 0)
        largest = 2**36  # the field's own bound
        sizes = [format_size(size) for size in (smaller, 2 * smaller) if size <= largest]
        raise ValueError(
            f"--cache {format_size(self.cache)} does not divide into a power of two of sets of"
            f" {self.cache_ways} ways x {self.cache_line} bytes for {self.vcpus} vCPU(s):"
            f" expected {' or '.join(sizes)}"
        )

    @property
    def cache_part(self) -> int:
        """Bytes of one vCPU's cache: the largest power of two of sets that fits its share."""
        way = self.cache_line * self.cache_ways
        sets = self.cache // self.vcpus // way
        return 0 if not sets else way << (sets.bit_length() - 1)

    @property
    def cache_used(self) -> int:
        """Bytes of all vCPUs' caches together."""
        return self.cache_part * self.vcpus

    @property
    def cache_note(self) -> str | None:
        """What a person should know of how the cache was divided; None: all of it is used."""
        if self.cache_used == self.cache:
            return None
        each = "" if self.vcpus == 1 else f", {format_size(self.cache_part)} for each vCPU"
        return (
            f"of a cache of {format_size(self.cache)} {format_size(self.cache_used)} is used"
            f"{each}: a power of two of sets of {self.cache_ways} ways x {self.cache_line} bytes"
        )


def _binary(size: int) -> int:
    """Return as many MiB or GiB as there are MB or GB, if whole; else round up to whole pages."""
    for decimal, binary in ((10**9, 2**30), (10**6, 2**20)):
        if size % decimal == 0:
            return size // decimal * binary
    return -(-size // PAGE_SIZE) * PAGE_SIZE


def _power_of_two(size: int, unit: int) -> bool:
    """Tell whether `size` is a power of two of `unit`s."""
    count, rest = divmod(size, unit)
    return not rest and count > 0 and count & (count - 1) == 0
