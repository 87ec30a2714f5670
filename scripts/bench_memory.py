"""What is done to memory outside the guest, against what the memory gives: a read or a copy.

Reference and figure are of as many bytes, of the same memory, one after the other in every run, and
each is the quickest of a few tries.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pageferry.common.guest.dirty import collect_log
from pageferry.common.guest.lines import gather, scatter
from pageferry.common.guest.memory import GuestMemory
from pageferry.common.guest.stale import new_masks
from pageferry.common.units import LINE_SIZE, PAGE_SIZE
from pageferry.common.wire import encoder
from scripts.bench_guest import ANYWHERE, GIB, running
from scripts.bench_rows import Bench, Effort, Row, row

MEMORY = 256 * 2**20
TRIES = 5  # a run
FRAME_PAGES = 256  # what is copied and summed at a time, 1 MiB as on the wire
READ = "reading it"
COPY = "copying it"


@njit(nogil=True)
def read(words: NDArray[np.uint64]) -> int:
    """Every word, as fast as compiled code can."""
    total = np.uint64(0)
    for i in range(len(words)):
        total |= words[i]
    return int(total)


def least_s(work: Callable[[], object], prepare: Callable[[], object] | None = None) -> float:
    """The quickest of a few: of something so short the others say what interrupted it."""
    took = []
    for _ in range(TRIES):
        if prepare is not None:
            prepare()
        start = time.perf_counter()
        work()
        took.append(time.perf_counter() - start)
    return min(took)


def rate(n: int, work: Callable[[], object]) -> float:
    """GB/s of `n` bytes."""
    return n / least_s(work) / 1e9


def beside(
    name: str,
    n: int,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    against: str,
    effort: Effort,
) -> Row:
    """Both once before the clock runs: what is compiled is compiled, what is mapped is mapped."""
    ours()
    theirs()
    values, references = [], []
    for _ in range(effort.runs):
        references.append(rate(n, theirs))
        values.append(rate(n, ours))
    return row(name, "GB/s", values, references, against=against)


@contextlib.contextmanager
def filled(effort: Effort, zero_share: float = 0.0) -> Iterator[GuestMemory]:
    memory = GuestMemory(effort.size(MEMORY))
    try:
        memory.fill(1, zero_share)
        if zero_share:
            memory.words[:] |= 0  # mapped, page by page
        yield memory
    finally:
        memory.close()


def zero_scan(effort: Effort) -> list[Row]:
    """A page with content is left at its first words, a page of zeros is read to its end."""
    rows = []
    for share in (1.0, 0.5, 0.0):
        with filled(effort, share) as memory:
            pages, words = np.arange(memory.n_pages), memory.words
            rows.append(
                beside(
                    f"zero scan, {share:.0%} of the pages zero",
                    memory.size,
                    partial(memory.zero_pages, pages),
                    partial(read, words),
                    READ,
                    effort,
                )
            )
    return rows


def in_frames(pages: NDArray[np.int64], work: Callable[[NDArray[np.int64]], object]) -> None:
    for start in range(0, len(pages), FRAME_PAGES):
        work(pages[start : start + FRAME_PAGES])


def page_copy(effort: Effort) -> list[Row]:
    """What a checked frame does first: its pages side by side, 1 MiB at a time."""
    rows = []
    with filled(effort) as memory:
        into = np.zeros((FRAME_PAGES, PAGE_SIZE // 8), np.uint64)

        def copy(numbers: NDArray[np.int64]) -> None:
            np.take(memory.pages, numbers, axis=0, out=into[: len(numbers)], mode="clip")

        def plain(numbers: NDArray[np.int64]) -> None:
            first = int(numbers[0])
            np.copyto(into[: len(numbers)], memory.pages[first : first + len(numbers)])

        for name, step in (("all pages", 1), ("every third page", 3)):
            pages = np.arange(0, memory.n_pages, step)
            side_by_side = np.arange(len(pages))
            rows.append(
                beside(
                    f"page copy, {name}",
                    len(pages) * PAGE_SIZE,
                    partial(in_frames, pages, copy),
                    partial(in_frames, side_by_side, plain),
                    COPY,
                    effort,
                )
            )
    return rows


def checksum(effort: Effort) -> list[Row]:
    """xxh3 of frames of 1 MiB of cold memory."""
    with filled(effort) as memory:
        pages = np.arange(memory.n_pages)

        def sums(numbers: NDArray[np.int64]) -> None:
            start = int(numbers[0]) * PAGE_SIZE
            encoder.trailer(memory.view[start : start + len(numbers) * PAGE_SIZE])

        return [
            beside(
                "checksum, 1 MiB frames",
                memory.size,
                lambda: in_frames(pages, sums),
                lambda: read(memory.words),
                READ,
                effort,
            )
        ]


def lines(effort: Effort) -> list[Row]:
    """Lines of pages side by side and back: 8 of each page's 64, in a frame of 1 MiB."""
    with filled(effort) as memory:
        n = min(FRAME_PAGES * 8, memory.n_pages)
        masks = np.full(n, np.uint64(0x0101010101010101))
        pages = np.arange(n)
        size = n * 8 * LINE_SIZE
        buffer, spare = np.zeros(size // 8, np.uint64), np.ones(size // 8, np.uint64)

        def copy() -> None:
            np.copyto(buffer, spare)

        return [
            beside(
                "lines gathered, 8 a page",
                size,
                lambda: gather(memory.words, pages, masks, buffer),
                copy,
                COPY,
                effort,
            ),
            beside(
                "lines scattered, 8 a page",
                size,
                lambda: scatter(memory.words, pages, masks, buffer),
                copy,
                COPY,
                effort,
            ),
        ]


def harvest(effort: Effort) -> list[Row]:
    """A 1 GiB guest's dirty log (a word a page) ORed into the stale pages and cleared."""
    n = effort.size(GIB) // PAGE_SIZE
    # In memory already, as in an agent: a masked store to a page that is not costs 1000 times more.
    log, out, spare = (new_masks(n) for _ in range(3))
    rng = np.random.default_rng(1)
    rows = []
    for share in (0.0, 0.1, 1.0):
        dirty = (rng.random(n) < share).astype(np.uint64)
        values, references = [], []
        collect_log(log, out)
        for _ in range(effort.runs):
            fill = partial(np.copyto, log, dirty)
            references.append(least_s(partial(np.copyto, spare, dirty)) * 1e3)
            values.append(least_s(partial(collect_log, log, out), fill) * 1e3)
        name = f"harvest of 1 GiB, {share:.0%} dirty"
        rows.append(row(name, "ms", values, references, against="copying the log"))
    return [*rows, *harvest_of_running(effort)]


def harvest_of_running(effort: Effort) -> list[Row]:
    """With the wait until every vCPU has passed a quantum's end."""
    values = []
    with running(effort, ANYWHERE, GIB, cache=0) as guest:
        out = new_masks(guest.n_pages)
        for _ in range(effort.runs):
            time.sleep(effort.seconds(0.3))
            start = time.perf_counter()
            guest.harvest(out)
            values.append((time.perf_counter() - start) * 1e3)
    return [row("harvest of 1 GiB while the guest runs", "ms", values)]


BENCHES: dict[str, Bench] = {
    "zero-scan": zero_scan,
    "page-copy": page_copy,
    "checksum": checksum,
    "lines": lines,
    "harvest": harvest,
}
