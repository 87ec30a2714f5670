"""The guest's configuration: what boots it, what the two agents negotiate, what the report repeats."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from common.units import LINE_SIZE, PAGE_SIZE, format_size


class GuestConfig(BaseModel):
    """Everything that, with a step count, determines every byte of a guest.

    Sizes are bytes. `cache` is the whole guest's write-back cache, shared out equally among the
    vCPUs; 0 is a guest without a cache.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    memory: int = Field(default=2**30, ge=PAGE_SIZE, le=2**44)
    vcpus: int = Field(default=1, ge=1, le=64)
    workload: str = Field(default="idle", max_length=512)
    seed: int = Field(default=1, ge=0, le=2**63 - 1)
    cache: int = Field(default=4 * 2**20, ge=0, le=2**36)
    cache_line: int = Field(default=LINE_SIZE, ge=LINE_SIZE, le=PAGE_SIZE)
    cache_ways: int = Field(default=16, ge=1, le=64)

    @property
    def pages(self) -> int:
        """Number of 4 KiB pages."""
        return self.memory // PAGE_SIZE

    @model_validator(mode="after")
    def _geometry(self) -> Self:
        if self.memory % PAGE_SIZE:
            raise ValueError(
                f"memory {self.memory} is not a whole number of {PAGE_SIZE}-byte pages"
            )
        if self.pages < 16 * self.vcpus:
            raise ValueError(
                f"memory {format_size(self.memory)} is too small for {self.vcpus} vCPU(s):"
                f" expected at least {format_size(16 * self.vcpus * PAGE_SIZE)}"
            )
        if self.cache_line & (self.cache_line - 1):
            raise ValueError(f"cache-line {self.cache_line} is not a power of two from 64 to 4096")
        if self.cache == 0:
            return self
        per_set = self.cache_line * self.cache_ways * self.vcpus
        sets, rest = divmod(self.cache, per_set)
        if rest or sets == 0 or sets & (sets - 1):
            raise ValueError(
                f"cache {format_size(self.cache)} does not divide into a power of two of sets of"
                f" {self.cache_ways} ways x {self.cache_line} bytes for {self.vcpus} vCPU(s)"
            )
        return self


class StrategyConfig(BaseModel):
    """Which strategy moves the guest, and its thresholds. Times are seconds, shares fractions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: str = "three-path"
    low: float = Field(default=0.10, ge=0, le=1)
    high: float = Field(default=0.50, ge=0, le=1)
    max_rounds: int = Field(default=9, ge=0, le=1000)
    path3: str = "stop-and-copy"
    downtime_limit: float = Field(default=0.3, gt=0, le=3600)

    @model_validator(mode="after")
    def _thresholds(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low:.0%} is above high {self.high:.0%}")
        return self
