"""What a workload is to a guest: constants for its compiled kernel, a schedule, and a self check.

Its options, and what they mean, are in `common.workload`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pageferry.common.guest.control import PARAM_WORDS, VcpuArrays
from pageferry.common.guest.memory import GuestMemory
from pageferry.common.guest.pace import FLAT_OUT, Pace
from pageferry.common.workload.region import Region

# The first constants are the same for every workload; the rest are its own.
SEED: Final = 0
FIRST_PAGE: Final = 1
PAGES: Final = 2  # of the working set
OWN: Final = 3

Kernel: TypeAlias = Callable[[VcpuArrays], None]


@dataclass(frozen=True)
class Plan:
    """What a vCPU's kernel is given.

    Attributes:
        pages: Pages of the working set, from the region's first page on.
        own: The workload's constants, from word `OWN` of `params` on; at most PARAM_WORDS - OWN.
        pace: When its steps are due.
        table: Read-only data for the kernel, uint64 of any length.
    """

    pages: int
    own: tuple[int, ...] = ()
    pace: Pace = FLAT_OUT
    table: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(1, np.uint64))

    def params(self, region: Region) -> NDArray[np.int64]:
        """Lay out the kernel's constants.

        Args:
            region: The vCPU's part of the guest; its seed is cut to 63 bits.

        Returns:
            int64[PARAM_WORDS]: seed, first page, pages, then the workload's own; the rest is 0.
        """
        params = np.zeros(PARAM_WORDS, np.int64)
        values = (region.seed & (2**63 - 1), region.first_page, self.pages, *self.own)
        params[: len(values)] = values
        return params


class Workload(ABC):
    """One workload with its options. A subclass is one file; `common.workload` names it.

    A *step* is one access, and atomic: it writes at most once, as the last thing it does, so that
    it can be given up and tried again if its page is missing. What a step does depends on the seed,
    the step's number and the memory that it reads, and on nothing else.

    Args:
        options: The value of every option that the workload's `Spec` lists, already parsed.

    Attributes:
        kernel: The compiled function that a vCPU's thread runs, unless `life` says otherwise.
        options: As given.
    """

    kernel: ClassVar[Kernel]

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options

    @property
    def life(self) -> Kernel:
        """The compiled function that a vCPU's thread runs until it is stopped."""
        return type(self).kernel

    @abstractmethod
    def plan(self, region: Region) -> Plan:
        """Work out the constants, table and schedule of one vCPU.

        Args:
            region: The vCPU's part of the guest.

        Returns:
            The plan, the same for the same region, on every host.

        Raises:
            UsageError: The working set does not fit in the guest, or something it needs can't be
                had.
        """

    def boot(self, memory: GuestMemory, region: Region) -> None:
        """Put what the workload needs into freshly filled memory.

        Args:
            memory: All of the guest's memory; only the region's pages may be changed.
            region: The vCPU's part of the guest.
        """
        del memory, region

    def check(self, memory: GuestMemory, region: Region, state: NDArray[np.uint64]) -> str | None:
        """Compare a drained guest's memory with what it must hold.

        Args:
            memory: All of the guest's memory; only read.
            region: The vCPU's part of the guest.
            state: uint64[STATE_WORDS], the vCPU's registers.

        Returns:
            What is wrong, in one line; None: nothing, or there is nothing to check.
        """
        del memory, region, state
        return None
