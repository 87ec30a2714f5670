"""How many 64-byte lines of a page a real guest changes: as measured, and as counts for visits.

Measured in a real Linux guest: Debian 13 (minbase and systemd), kernel 6.12.117, one vCPU, 512 MiB,
transparent huge pages not used, under QEMU 7.2.22 with TCG, that is, emulated. The guest was
stopped, all of its memory was saved (`pmemsave`), it ran for 100 ms of its own time, was stopped
and saved again. The counts are of the 64-byte lines whose content differs, for each page with at
least one such line. What was overwritten with the same value is not seen. Emulation makes a guest
slow, so nothing is said here about how many pages a second change; which part of a page changes is
assumed to be the same.

Over longer times more lines of a page change (redis: 9.8 after 100 ms, 15.5 after 300 ms, 20.7
after 1 s), as they do where the same page is visited again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

VISITS: Final = 256  # of a cycle: over so many each mixture has its mean; a power of two
BINS: Final = ((1, 1), (2, 2), (3, 4), (5, 8), (9, 16), (17, 32), (33, 63), (64, 64))
_HALVINGS: Final = 40
_STEEPEST: Final = 16.0


@dataclass(frozen=True, repr=False)
class Mix:
    """Lines of a changed page in one guest under one load.

    Attributes:
        name: What follows `mix:` in a workload's text.
        load: What ran.
        mean: Mean lines of a changed page.
        median: Median lines of a changed page.
        pages: For each bin of `BINS`, how many pages had so many lines.
    """

    name: str
    load: str
    mean: float
    median: float
    pages: tuple[int, ...]

    def __str__(self) -> str:
        return f"mix:{self.name}"

    __repr__ = __str__

    @cached_property
    def lines(self) -> tuple[int, ...]:
        """Lines of each of `VISITS` visits, ascending: in each bin as often as it was measured.

        Where within a bin the counts lie was not kept. They are spread from one end to the other,
        all bins alike, so that the mean comes out as measured.
        """
        low, high = 1.0 / _STEEPEST, _STEEPEST
        for _ in range(_HALVINGS):
            middle = (low * high) ** 0.5
            low, high = (middle, high) if self._mean_of(middle) > self.mean else (low, middle)
        near = sorted((self._spread(low), self._spread(high)), key=self._off)
        return near[0]

    @cached_property
    def total(self) -> int:
        """Lines of a whole cycle."""
        return sum(self.lines)

    def _off(self, lines: tuple[int, ...]) -> float:
        return abs(sum(lines) / VISITS - self.mean)

    def _mean_of(self, bend: float) -> float:
        return sum(self._spread(bend)) / VISITS

    def _spread(self, bend: float) -> tuple[int, ...]:
        """Spread the counts over their bins. bend: above 1 they crowd at the lower ends."""
        out: list[int] = []
        for (first, last), count in zip(BINS, self._visits, strict=True):
            for at in range(count):
                out.append(first + round(((at + 0.5) / count) ** bend * (last - first)))
        return tuple(out)

    @cached_property
    def _visits(self) -> list[int]:
        """Visits of each bin: the largest remainders are rounded up."""
        whole = sum(self.pages)
        exact = [count * VISITS / whole for count in self.pages]
        out = [int(each) for each in exact]
        by_rest = sorted(range(len(exact)), key=lambda at: out[at] - exact[at])
        for at in by_rest[: VISITS - sum(out)]:
            out[at] += 1
        return out


MIXES: Final = {
    mix.name: mix
    for mix in (
        Mix(
            "idle",
            "20 s after boot: systemd, dbus, cron and an idle redis-server",
            4.7405,
            2.0,
            (57, 24, 15, 14, 13, 5, 3, 0),
        ),
        Mix(
            "gcc",
            "gcc -O2 of eight generated C files, in a loop",
            5.9126,
            2.5,
            (122, 61, 57, 51, 43, 23, 9, 0),
        ),
        Mix(
            "python",
            "a dict of 400,000 random keys being overwritten (beside a gcc)",
            5.77,
            3.0,
            (2326, 2614, 2570, 2226, 1078, 103, 14, 306),
        ),
        Mix(
            "redis",
            "redis-benchmark SET, 100,000 random keys, values of 100 bytes",
            9.823,
            5.0,
            (214, 136, 258, 338, 88, 99, 45, 42),
        ),
        Mix(
            "sqlite",
            "sqlite3 on ext4 (WAL): inserts, updates of random rows, deletes, in a loop",
            12.1402,
            6.0,
            (123, 57, 66, 115, 109, 57, 35, 23),
        ),
        Mix(
            "dd",
            "dd of /dev/urandom to tmpfs, in a loop (beside a gcc)",
            28.4569,
            9.0,
            (170, 81, 94, 78, 62, 30, 45, 311),
        ),
        Mix(
            "targz",
            "tar of /usr/share | gzip -1 to tmpfs, in a loop",
            44.0161,
            64.0,
            (119, 33, 51, 34, 33, 19, 32, 551),
        ),
    )
}
