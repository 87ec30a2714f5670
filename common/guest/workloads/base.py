"""What a workload is: options, constants for its compiled kernel, a schedule, and a self check."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from common.errors import UsageError
from common.guest.control import PARAM_WORDS, VcpuArrays
from common.guest.memory import GuestMemory
from common.guest.pace import FLAT_OUT, Pace
from common.units import PAGE_SIZE, format_size, parse_rate, parse_share, parse_size, parse_time

# The first constants of every workload; the rest are its own.
SEED: Final = 0
FIRST_PAGE: Final = 1
PAGES: Final = 2  # of the working set
OWN: Final = 3


@dataclass(frozen=True)
class Region:
    """The part of the guest that one vCPU owns. cache: bytes of its cache."""

    vcpu: int
    vcpus: int
    first_page: int
    pages: int
    seed: int
    cache: int


@dataclass(frozen=True)
class Extent:
    """A working set as it was written: bytes of the whole guest, or a share."""

    size: int | None = None
    share: float = 1.0

    @property
    def empty(self) -> bool:
        """Nothing at all."""
        return self.size == 0 or (self.size is None and self.share == 0)

    def pages(self, region: Region) -> int:
        """Pages of one vCPU's region, at least one."""
        if self.size is None:
            return max(1, round(self.share * region.pages))
        wanted = -(-self.size // (PAGE_SIZE * region.vcpus))
        if wanted > region.pages + 1:  # regions differ by a page where vCPUs do not divide memory
            raise UsageError(
                f"a workload's working set of {format_size(self.size)} does not fit in the guest"
            )
        return max(1, min(wanted, region.pages))


def parse_extent(text: str) -> Extent:
    """`64MiB`, or a share as `50%` or `0.5`."""
    try:
        return Extent(share=parse_share(text))
    except ValueError:
        return Extent(size=parse_size(text))


def parse_flag(text: str) -> bool:
    """`true` or `false`."""
    if text not in ("true", "false"):
        raise ValueError(f"{text!r} is neither true nor false")
    return text == "true"


def whole(low: int, high: int) -> Callable[[str], int]:
    """A parser of whole numbers in this range."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise ValueError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return parse


def number(low: float, high: float) -> Callable[[str], float]:
    """A parser of decimal numbers in this range."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise ValueError(f"{text!r} is not a number from {low:g} to {high:g}")
        return value

    return parse


def parse_period(text: str) -> float:
    """A time from 1 ms to an hour, in seconds."""
    seconds = parse_time(text)
    if not 1e-3 <= seconds <= 3600:
        raise ValueError(f"{text!r} is out of range: expected 1ms to 1h")
    return seconds


def parse_visit_rate(text: str) -> float:
    """Page visits a second, as bytes."""
    rate = parse_rate(text)
    if rate < 1:
        raise ValueError(f"{text!r} is too slow: expected at least 1B/s")
    return rate


@dataclass(frozen=True)
class Key:
    """An option of a workload: its default as a user would write it, and how it is read."""

    default: str
    parse: Callable[[str], Any]


@dataclass(frozen=True)
class Plan:
    """What a vCPU's kernel is given. own: constants after the common ones. table: of any length."""

    pages: int
    own: tuple[int, ...] = ()
    pace: Pace = FLAT_OUT
    table: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(1, np.uint64))

    def params(self, region: Region) -> NDArray[np.int64]:
        """int64[PARAM_WORDS]."""
        params = np.zeros(PARAM_WORDS, np.int64)
        values = (region.seed & (2**63 - 1), region.first_page, self.pages, *self.own)
        params[: len(values)] = values
        return params


# What memory holds at the start. Of a page that is not zero, so much is random (which does not
# compress), and the rest is one word of that page, over and over.
CONTENT: Final = {"zero-share": Key("0%", parse_share), "entropy": Key("100%", parse_share)}


class Workload(ABC):
    """One workload with its options. A subclass is one file; `registry` lists it.

    A *step* is one access, atomic: at most one write and that last, so that it can be given up and
    tried again if its page is missing. What a step does depends on the seed, the step's number and
    the memory that it reads, and on nothing else.
    """

    name: ClassVar[str]
    keys: ClassVar[Mapping[str, Key]]
    kernel: ClassVar[Callable[[VcpuArrays], None]]  # the vCPU's thread is inside it all the time
    first_key: ClassVar[str | None] = None  # the option that may be written without its name, first
    complete: ClassVar[bool] = True  # whether its name alone is enough to make one

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options

    @property
    def zero_share(self) -> float:
        """Share of memory that is zero at the start."""
        return float(self.options.get("zero-share", 0.0))

    @property
    def entropy(self) -> float:
        """Share of each other page that is random at the start."""
        return float(self.options.get("entropy", 1.0))

    def pinned(self, text: str) -> str:
        """`text`, which made this workload, as another host must be told it.

        It then says which content is meant of what is outside the text: a file.
        """
        return text

    @abstractmethod
    def plan(self, region: Region) -> Plan:
        """Constants, table and schedule of one vCPU. Raises `UsageError` where it does not fit."""

    def boot(self, memory: GuestMemory, region: Region) -> None:
        """Put what the workload needs into freshly filled memory."""
        del memory, region

    def check(self, memory: GuestMemory, region: Region, state: NDArray[np.uint64]) -> str | None:
        """Compare a drained guest's memory with what it must hold; None is fine."""
        del memory, region, state
        return None


def visits_per_s(rate_Bps: float, region: Region) -> float:
    """Page visits a second of one vCPU."""
    return rate_Bps / PAGE_SIZE / region.vcpus
