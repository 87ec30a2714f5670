"""Harvesting the dirty log: the controlling thread's side of `common.guest.dirty`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pageferry.common.guest.control import ACTIVE_LOG, LOG_EPOCH
from pageferry.common.guest.dirty import collect_log
from pageferry.common.guest.vcpu import Vcpus


class DirtyLog:
    """The dirty log as a source of dirty pages, the one that always exists.

    Args:
        log: uint64[2 * n_pages], both buffers, which vCPUs write to.
        vcpus: The guest's vCPUs; asked at each harvest to change to the other buffer.
    """

    def __init__(self, log: NDArray[np.uint64], vcpus: Vcpus) -> None:
        self._log = log
        self._vcpus = vcpus
        self._epoch = 0

    def harvest(self, out: NDArray[np.uint64]) -> None:
        """OR what was written since the last harvest into `out`; for the controlling thread.

        Args:
            out: As for `DirtySource.harvest`.

        Raises:
            PageferryError: A vCPU did not answer.
        """
        n_pages = len(self._log) // 2
        first = (self._epoch & 1) * n_pages
        self._epoch += 1
        self._vcpus.request({LOG_EPOCH: self._epoch}, "harvest")
        if not self._vcpus.started:
            for m in self._vcpus.machines:
                m.ctl[ACTIVE_LOG] = n_pages - first
        collect_log(self._log[first : first + n_pages], out)

    def close(self) -> None:
        """Drop the buffers."""
        self._log = np.zeros(0, np.uint64)
