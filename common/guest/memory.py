"""Guest memory: one private anonymous mapping of whole 4 KiB pages, seen through numpy."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import mmap
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.capacity.cpus import usable_cpus
from pageferry.common.capacity.exhausted import ran_out
from pageferry.common.errors import UsageError
from pageferry.common.guest.jit import kernel
from pageferry.common.guest.native import copy_line
from pageferry.common.guest.rng import mix
from pageferry.common.units import PAGE_SIZE, format_size

WORDS_PER_PAGE: Final = PAGE_SIZE // 8
_FILL_THREADS: Final = min(2, usable_cpus().count)
_MADV_POPULATE_WRITE: Final = 23  # Linux 5.14
_POPULATE_PAGES: Final = 4096  # in one call
# mmap.madvise holds the interpreter lock while the kernel works.
_libc = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


@kernel
def _fill(
    words: NDArray[np.uint64],
    first_page: int,
    end_page: int,
    seed: np.uint64,
    zero_below: np.uint64,
    random_words: int,
) -> None:
    """Fill pages `first_page` to `end_page`: a page is left zero where its hash is small.

    The first `random_words` words of any other page are random; those that follow are all the same.
    """
    for page in range(first_page, end_page):
        h = mix(seed ^ np.uint64(~page))
        if h >= zero_below:
            first = page * 512
            for word in range(first, first + random_words):
                words[word] = mix(seed + np.uint64(word))
            words[first + random_words : first + 512] = h | np.uint64(1)


@kernel
def _zero_pages(
    words: NDArray[np.uint64], pages: NDArray[np.int64], out: NDArray[np.bool_]
) -> None:
    for i in range(len(pages)):
        first = pages[i] * 512
        zero = True
        for start in range(first, first + 512, 16):
            seen = np.uint64(0)
            for word in range(start, start + 16):
                seen |= words[word]
            if seen != np.uint64(0):
                zero = False
                break
        out[i] = zero


@kernel
def _put_pages(
    words: NDArray[np.uint64], pages: NDArray[np.int64], data: NDArray[np.uint64]
) -> None:
    for i in range(len(pages)):
        for word in range(0, 512, 8):
            copy_line(words, (pages[i] << 9) + word, data, (i << 9) + word)


def near_pages(n: int) -> NDArray[np.uint64]:
    """Make a buffer of whole, page-aligned pages beside guest memory, already touched.

    Alignment matters: processors that copy strings by microcode take twice as long to a target that
    is not aligned, which what numpy allocates is not.

    Args:
        n: How many pages.

    Returns:
        uint64[n, 512], zero; unmapped with its last view.
    """
    mapped = mmap.mmap(-1, n * PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pages = np.frombuffer(mapped, np.uint64).reshape(n, WORDS_PER_PAGE)
    pages.fill(0)
    return pages


class GuestMemory:
    """Zeroed guest memory, without huge pages, since post-copy places single ones.

    Args:
        size: Bytes, a multiple of the page size.

    Attributes:
        size: As given; 0 once closed.
        n_pages: Pages of that size.
        words: uint64[n_pages * 512], all of the memory.
        pages: uint64[n_pages, 512], the same memory.
        view: Writable bytes, the same memory.
        address: Address of its first byte.

    Raises:
        UsageError: So much memory is not to be had.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.n_pages = size // PAGE_SIZE
        try:
            self._map = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except (OSError, OverflowError, ValueError) as error:
            raise UsageError(
                f"no {format_size(size)} of guest memory: {ran_out(error) or error}"
            ) from None
        self.view = memoryview(self._map)
        self.words: NDArray[np.uint64] = np.frombuffer(self._map, np.uint64)
        self.pages: NDArray[np.uint64] = self.words.reshape(self.n_pages, WORDS_PER_PAGE)
        self.address = self.words.ctypes.data
        self._advise(mmap.MADV_NOHUGEPAGE)

    def _advise(self, advice: int) -> None:
        if _libc.madvise(self.address, self.size, advice) != 0:
            error = ctypes.get_errno()
            if advice != mmap.MADV_NOHUGEPAGE:  # which a kernel without huge pages refuses
                raise OSError(error, f"madvise({advice})")

    def fill(self, seed: int, zero_share: float = 0.0, entropy: float = 1.0) -> None:
        """Fill with seeded incompressible data; must come first, while memory is still zero.

        Args:
            seed: From 0 to 2**64 - 1; determines every byte, and which pages stay zero.
            zero_share: About this share of the pages stays zero, 0 to 1.
            entropy: The share of each other page that is random, 0 to 1; its rest is one word
                repeated.
        """
        random_words = round(entropy * WORDS_PER_PAGE)
        zero_below = np.uint64(min(int(zero_share * 2**64), 2**64 - 1))
        cuts = [self.n_pages * i // _FILL_THREADS for i in range(_FILL_THREADS + 1)]
        with ThreadPoolExecutor(_FILL_THREADS, "fill") as threads:
            jobs = [
                threads.submit(
                    _fill, self.words, first, end, np.uint64(seed), zero_below, random_words
                )
                for first, end in itertools.pairwise(cuts)
            ]
        for job in jobs:
            job.result()

    def zero_pages(self, pages: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Find out which pages hold nothing but zeros. They must be present, as they are read.

        Args:
            pages: int64[n], page numbers.

        Returns:
            bool[n].
        """
        out = np.empty(len(pages), np.bool_)
        _zero_pages(self.words, np.ascontiguousarray(pages, np.int64), out)
        return out

    def put_pages(self, pages: NDArray[np.int64], data: NDArray[np.uint64]) -> None:
        """Overwrite pages.

        Args:
            pages: int64[n], page numbers.
            data: uint64[512 * n] or longer, their new content in the same order.
        """
        _put_pages(self.words, pages, data)

    def populate(self, pages: NDArray[np.bool_]) -> None:
        """Have the kernel allocate pages now, zeroed if they are not there; uses several threads.

        Where the kernel can't (before Linux 5.14, or without memory), it gives them at their first
        touch, as usual.

        Args:
            pages: bool[n_pages], which ones.
        """
        edges = np.flatnonzero(np.diff(pages, prepend=False, append=False)).reshape(-1, 2)
        runs = [
            (first, min(first + _POPULATE_PAGES, end))
            for start, end in edges.tolist()
            for first in range(start, end, _POPULATE_PAGES)
        ]
        cuts = [len(runs) * i // _FILL_THREADS for i in range(_FILL_THREADS + 1)]
        with ThreadPoolExecutor(_FILL_THREADS, "populate") as threads:
            jobs = [
                threads.submit(self._populate, runs[begin:end])
                for begin, end in itertools.pairwise(cuts)
            ]
        for job in jobs:
            job.result()

    def _populate(self, runs: list[tuple[int, int]]) -> None:
        for first, end in runs:
            start, size = self.address + first * PAGE_SIZE, (end - first) * PAGE_SIZE
            if _libc.madvise(start, size, _MADV_POPULATE_WRITE) != 0:
                return  # a kernel before 5.14, or no memory: whoever touches them finds out

    def discard(self, pages: NDArray[np.bool_]) -> None:
        """Give pages back to the kernel; they read as zeros from then on.

        Args:
            pages: bool[n_pages], which ones.
        """
        edges = np.flatnonzero(np.diff(pages, prepend=False, append=False)).reshape(-1, 2)
        for first, end in edges.tolist():
            start, size = self.address + first * PAGE_SIZE, (end - first) * PAGE_SIZE
            _libc.madvise(start, size, mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Give the memory back; idempotent. A view that somebody still holds reads zeros then."""
        if self._map.closed or not self.size:
            return
        self._advise(mmap.MADV_DONTNEED)
        self.view.release()
        self.words = np.empty(0, np.uint64)
        self.pages = np.empty((0, WORDS_PER_PAGE), np.uint64)
        self.size = 0
        with contextlib.suppress(BufferError):  # unmapped with the last view; its pages are gone
            self._map.close()
