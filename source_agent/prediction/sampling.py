"""What a running guest dirties, looked at for a moment before its migration.

The cache is drained and the dirty log emptied, as a round does at its start. From there on the log
is looked at again and again, and what it gives is gathered: each look sees what would have become
stale in a round of that length. What a harvest takes is lost to the migration's own log, which is
right: nothing has been sent yet, and every page will be, whatever the strategy.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pageferry.common.guest.machine import Guest
from pageferry.common.guest.progress import Progress
from pageferry.common.guest.stale import CACHE, COUNTS, MEMORY, UNION, count_stale, new_masks
from pageferry.common.report.page_bins import Binning
from pageferry.common.strategy.prediction import Look, Measurement
from pageferry.common.wire.frames import MOST_LINES
from pageferry.source_agent.precopy.rounds import cost_of

FIRST_LOOK_S: Final = (
    0.004  # a few quanta: an earlier look says more about them than about the guest
)
# A fine mesh where growth slows down, as that part is extrapolated; a coarse one for short rounds.
_FINE: Final = 2**0.25
_COARSE: Final = 2**0.5
_FINE_SHARE: Final = 1 / 4
_ZERO_PAGES: Final = 1 << 15  # checked in one go


def look_times(seconds: float) -> list[float]:
    """Compute when to look.

    Args:
        seconds: For how long to measure.

    Returns:
        Seconds after the beginning, rising; the last one is `seconds`.
    """
    out, at = [], seconds
    while at >= FIRST_LOOK_S:
        out.append(at)
        at /= _FINE if at > _FINE_SHARE * seconds else _COARSE
    return (out or [seconds])[::-1]


class PreMigrationSampler:
    """One measurement. All methods block.

    Args:
        guest: Runs; its dirty log is emptied.
        by_line: Whether pages that were sent before may travel as their changed lines.
    """

    def __init__(self, guest: Guest, *, by_line: bool) -> None:
        self._guest = guest
        self._most_lines = MOST_LINES if by_line else 0
        self._gathered = new_masks(guest.n_pages)
        self._cached = new_masks(guest.n_pages)
        self._sent: NDArray[np.bool_] = np.full(guest.n_pages, True)
        self._counts = np.zeros(COUNTS, np.int64)
        self._binning = Binning(guest.n_pages)
        self._by_bin = self._binning.zeros()
        self._looks: list[Look] = []
        self._start_ns = 0
        self._drain_s = math.inf
        self._zero_pages = 0
        self._count()  # load the kernel now

    def begin(self) -> Progress:
        """Drain the cache and empty the log, as a round does.

        Returns:
            What the guest had done by then.
        """
        guest = self._guest
        self._zero_pages = self._count_zero()
        self._drain()
        guest.harvest(self._gathered)
        self._start_ns = time.monotonic_ns()
        self._gathered.fill(0)
        return guest.progress()

    def _drain(self) -> None:
        """Time a drain; keep the best of several, as other users of the CPUs only add to it."""
        begun = time.monotonic_ns()
        self._guest.drain()
        self._drain_s = min(self._drain_s, (time.monotonic_ns() - begun) / 1e9)

    def _count_zero(self) -> int:
        n, memory = self._guest.n_pages, self._guest.memory
        return sum(
            int(np.count_nonzero(memory.zero_pages(np.arange(at, min(at + _ZERO_PAGES, n)))))
            for at in range(0, n, _ZERO_PAGES)
        )

    def left_s(self, seconds: float) -> float:
        """Return how long it is until a look is due.

        Args:
            seconds: What the look is to see, counted from `begin`.

        Returns:
            Seconds; negative where it is late.
        """
        return seconds - (time.monotonic_ns() - self._start_ns) / 1e9

    def look(self) -> None:
        """Look at what has become stale by now."""
        begun = time.monotonic_ns()
        # The cache first, as when a round ends: a line written back in between counts once.
        self._guest.cached_dirty(self._cached)
        self._guest.harvest(self._gathered)
        seen_ns = time.monotonic_ns()
        lines = int(np.bitwise_count(self._gathered | self._cached).sum(dtype=np.int64))
        self._count()
        (pages, size), (_, in_memory), (_, in_cache) = (
            cost_of(self._counts, part) for part in (UNION, MEMORY, CACHE)
        )
        look_s = (time.monotonic_ns() - begun) / 1e9
        seconds = (seen_ns - self._start_ns) / 1e9
        self._looks.append(Look(seconds, pages, lines, size, in_memory, in_cache, look_s))

    def _count(self) -> None:
        count_stale(
            self._gathered,
            self._cached,
            self._sent,
            self._most_lines,
            self._by_bin,
            self._binning.per_bin,
            self._counts,
        )

    def end(self, booted: Progress | None, begun: Progress) -> Measurement:
        """End the measurement, with one more drain.

        Args:
            booted: What the guest had done when it began to run; None: it had not run.
            begun: What `begin` returned.

        Returns:
            What was seen.
        """
        now = self._guest.progress()
        self._drain()
        return Measurement(
            pages_total=self._guest.n_pages,
            zero_pages=self._zero_pages,
            looks=tuple(self._looks),
            drain_s=self._drain_s,
            steps_per_s_before=None if booted is None else _speed(booted, begun),
            steps_per_s_while=_speed(begun, now) or 0.0,
        )


def _speed(first: Progress, last: Progress) -> float | None:
    seconds = (last.t_ns - first.t_ns) / 1e9
    return (last.steps - first.steps) / seconds if seconds > 0 else None


async def measure_guest(
    guest: Guest,
    seconds: float,
    *,
    by_line: bool,
    booted: Progress | None,
    blocking: Callable[..., Awaitable[Any]],
    pause: Callable[[float], Awaitable[None]],
) -> Measurement:
    """Look at a running guest for some time.

    Args:
        guest: Runs; its dirty log is emptied.
        seconds: How long to look.
        by_line: Whether pages that were sent before may travel as their changed lines.
        booted: What the guest had done when it began to run; None: it had not run.
        blocking: Runs a function, with its arguments, that blocks on the guest.
        pause: Waits so many seconds; raises what ends the measurement early.

    Returns:
        What was seen.
    """
    sampler = await blocking(lambda: PreMigrationSampler(guest, by_line=by_line))
    begun = await blocking(sampler.begin)
    for at in look_times(seconds):
        await pause(max(sampler.left_s(at), 0.0))
        await blocking(sampler.look)
    measured: Measurement = await blocking(sampler.end, booted, begun)
    return measured
