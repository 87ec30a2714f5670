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

# The first constants of every workload; the rest are its own.
SEED: Final = 0
FIRST_PAGE: Final = 1
PAGES: Final = 2  # of the working set
OWN: Final = 3

Kernel: TypeAlias = Callable[[VcpuArrays], None]


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


class Workload(ABC):
    """One workload with its options. A subclass is one file; `common.workload` names it.

    A *step* is one access, atomic: at most one write and that last, so that it can be given up and
    tried again if its page is missing. What a step does depends on the seed, the step's number and
    the memory that it reads, and on nothing else.
    """

    kernel: ClassVar[Kernel]

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options

    @property
    def life(self) -> Kernel:
        """What a vCPU's thread is inside all the time."""
        return type(self).kernel

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
