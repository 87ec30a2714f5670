"""Which pages were written, asked from the kernel: as a hypervisor's own process would learn it.

Guest memory is registered with a userfaultfd in asynchronous write-protect mode. A write to a
protected page lifts the protection, without a message to anybody; PAGEMAP_SCAN lists the pages that
are not protected, and protects them again in the same step. No package has bindings for these;
numbers and structures are those of <linux/fs.h> and Documentation/admin-guide/mm/pagemap.rst.

    struct pm_scan_arg   u64 size, flags, start, end, walk_end, vec, vec_len, max_pages,
                             category_inverted, category_mask, category_anyof_mask, return_mask
    struct page_region   u64 start, end, categories

For each page, listing and protecting are one step under the page table's lock, and no processor can
write through an old translation once the call has returned. So a write is either in what is read of
the page after the scan, or in the next scan; it may be in both.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from pageferry.common.errors import PageferryError, UsageError
from pageferry.common.guest.jit import kernel
from pageferry.common.guest.memory import GuestMemory
from pageferry.common.guest.native import signed
from pageferry.common.units import PAGE_SIZE
from pageferry.common.userfault import (
    WP_ASYNC,
    WP_UNPOPULATED,
    UserfaultError,
    UserfaultUnavailable,
    open_userfault,
)

NEEDS: Final = "Linux 6.7"  # the first with both
_PAGEMAP: Final = "/proc/self/pagemap"
_REGIONS: Final = 8192  # in one call; a guest may have more
_WP_MATCHING: Final = 1
_CHECK_WPASYNC: Final = 2  # fail where the memory is not registered, instead of finding nothing
_PAGE_IS_WRITTEN: Final = 2
_ALL_LINES: Final = np.uint64(2**64 - 1)
_PAGE_SHIFT: Final = np.uint64(PAGE_SIZE.bit_length() - 1)


class _ScanArg(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            *("size", "flags", "start", "end", "walk_end", "vec", "vec_len", "max_pages"),
            *("category_inverted", "category_mask", "category_anyof_mask", "return_mask"),
        )
    )


REGION: Final = np.dtype([("start", "<u8"), ("end", "<u8"), ("categories", "<u8")])
SCAN_REQUEST: Final = 3 << 30 | ctypes.sizeof(_ScanArg) << 16 | ord("f") << 8 | 16

assert (ctypes.sizeof(_ScanArg), REGION.itemsize) == (96, 24)  # noqa: S101
assert SCAN_REQUEST == 0xC0606610  # noqa: S101


@kernel
def _mark(regions: NDArray[np.uint64], count: int, base: np.uint64, out: NDArray[np.uint64]) -> int:
    """Mark all lines of the pages in `regions` (uint64[any, 3]) in `out`; return how many pages."""
    pages = 0
    for i in range(count):
        first = signed((regions[i, 0] - base) >> _PAGE_SHIFT)
        end = signed((regions[i, 1] - base) >> _PAGE_SHIFT)
        out[first:end] = _ALL_LINES
        pages += end - first
    return pages


class DirtySource(Protocol):
    """Where a harvest comes from."""

    def harvest(self, out: NDArray[np.uint64]) -> None:
        """OR what was written since the last harvest into `out`, and forget it here.

        Args:
            out: uint64[n_pages], a bit a line; changed.
        """


class KernelDirty:
    """The kernel's knowledge of writes to guest memory, whoever makes them.

    The first harvest gives every page, and costs more than any later one.

    Args:
        memory: The guest's memory; registered with a userfaultfd until `close`.
        log: Harvested, too. It stays exact, which tests compare with, and counts the pages that the
            guest dirties.

    Attributes:
        log: As given.
        logged: uint64[n_pages], what `log` gave, gathered until somebody clears it.

    Raises:
        UsageError: The kernel has no such thing, or what confines this process forbids it.
    """

    def __init__(self, memory: GuestMemory, log: DirtySource) -> None:
        self.log = log
        self._memory = memory
        self.logged: NDArray[np.uint64] = np.zeros(memory.n_pages, np.uint64)
        self._regions: NDArray[np.uint64] = np.zeros((_REGIONS, 3), np.uint64)
        self._pagemap = -1
        try:
            self._fault = open_userfault(WP_ASYNC | WP_UNPOPULATED)
        except UserfaultUnavailable as error:
            raise UsageError(f"--dirty-tracker kernel: {error}; {_needs()}") from None
        try:
            self._pagemap = os.open(_PAGEMAP, os.O_RDONLY | os.O_CLOEXEC)
            self._fault.register_writes(memory.address, memory.size)
            self._scan(memory.address, memory.address)  # nothing, but it shows if it can
        except OSError as error:
            self.close()
            why = os.strerror(error.errno or errno.EIO)
            raise UsageError(f"--dirty-tracker kernel: {_PAGEMAP}: {why}; {_needs()}") from None
        except UserfaultError as error:
            self.close()
            raise UsageError(f"--dirty-tracker kernel: {error}; {_needs()}") from None
        _mark(self._regions, 0, np.uint64(0), self.logged)  # loads the compiled code now

    def _scan(self, start: int, end: int) -> tuple[int, int]:
        """Scan these addresses; return the regions found, and where the next call continues."""
        arg = _ScanArg(
            size=ctypes.sizeof(_ScanArg),
            flags=_WP_MATCHING | _CHECK_WPASYNC,
            start=start,
            end=end,
            vec=self._regions.ctypes.data,
            vec_len=len(self._regions),
            category_mask=_PAGE_IS_WRITTEN,
            return_mask=_PAGE_IS_WRITTEN,
        )
        found = fcntl.ioctl(self._pagemap, SCAN_REQUEST, arg)
        return found, arg.walk_end

    def harvest(self, out: NDArray[np.uint64]) -> None:
        """Mark every line of the pages that were written; harvest the log into `logged`.

        Args:
            out: As for `DirtySource.harvest`.

        Raises:
            PageferryError: The kernel refused the scan, or a vCPU did not answer.
        """
        self.log.harvest(self.logged)
        self.scan(out)

    def scan(self, out: NDArray[np.uint64]) -> None:
        """Mark every line of the pages that the kernel has seen written; leave the log alone.

        Args:
            out: As for `DirtySource.harvest`.

        Raises:
            PageferryError: The kernel refused the scan.
        """
        base, end = self._memory.address, self._memory.address + self._memory.size
        at = base
        while at < end:
            try:
                found, at = self._scan(at, end)
            except OSError as error:
                raise PageferryError(
                    f"PAGEMAP_SCAN: {os.strerror(error.errno or errno.EIO)}"
                ) from None
            _mark(self._regions, found, np.uint64(base), out)

    def close(self) -> None:
        """End the protection of pages; idempotent."""
        self._fault.close()
        if self._pagemap >= 0:
            os.close(self._pagemap)
            self._pagemap = -1


def _needs() -> str:
    return f"it needs {NEEDS} (this is {platform.release()}) and permission to use userfaultfd"
