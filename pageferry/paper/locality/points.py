"""The map's axes, its places, and the ways in which the same guest is moved at each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple

from pageferry.common.config.model import MigrationConfig
from pageferry.common.units import LINES_PER_PAGE, format_rate, format_size
from pageferry.paper.experiment import UNMET_LIMIT_S

MEMORY: Final = 128 * 2**20  # of the guest
CACHE: Final = 2**20
LINK_Bps: Final = 1e8
RUN_S: Final = 4.5  # what a migration at a place takes, about, with its agents and its replay

LINES: Final = (1, 2, 4, 8, 16, 32, LINES_PER_PAGE)
REUSES: Final = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
RATES: Final = (0.1, 0.25, 0.5, 1.0, 2.0)
# Those of them that are measured.
MEASURED_REUSES: Final = (0.125, 1.0, 4.0, 16.0, 32.0)
MEASURED_RATES: Final = (0.1, 0.5, 2.0)
# The smaller map, with a read for every write.
READ_LINES: Final = (2, 8, LINES_PER_PAGE)
READ_REUSES: Final = (1.0, 16.0, 32.0)
READ_RATES: Final = (0.5, 2.0)
SEEDS: Final = (1, 2, 3)


class Point(NamedTuple):
    """A place of the map.

    Attributes:
        lines: 64-byte lines that a visit writes of a page, the same ones each time.
        reuse: Working set / cache.
        rate: Page visits as bytes of whole pages a second / the link's rate.
        reads: Share of the accesses that read: they evict dirty lines.
    """

    lines: int
    reuse: float
    rate: float
    reads: float = 0.0

    @property
    def workload(self) -> str:
        """What the guest does there, as `--workload` takes it."""
        size, rate = format_size(round(self.reuse * CACHE)), format_rate(self.rate * LINK_Bps)
        writes = f",write-share={1 - self.reads:.0%}" if self.reads else ""
        return f"uniform:working-set={size},rate={rate},lines={self.lines}{writes}"


class Way(StrEnum):
    """How a guest is moved at each place."""

    CACHED = "with"
    UNCACHED = "without"
    PRE_COPY = "pre-copy"


# By options. Pre-copy's limit is one that no stop meets: it does as many rounds as path 2 may.
WAYS: Final[dict[Way, dict[str, Any]]] = {
    Way.CACHED: {"strategy": "three-path", "cache": CACHE},
    Way.UNCACHED: {"strategy": "three-path", "cache": 0},
    Way.PRE_COPY: {"strategy": "pre-copy", "cache": 0, "downtime_limit": UNMET_LIMIT_S},
}


def config_of(point: Point, way: Way, seed: int, **more: Any) -> MigrationConfig:
    """Make the migration of a place.

    Args:
        point: Where.
        way: How.
        seed: Of the guest.
        **more: Options that take the place of these.

    Returns:
        The configuration.
    """
    values = {
        "memory": MEMORY,
        "max_bandwidth": LINK_Bps,
        "path3": "stop-and-copy",  # as the paper writes it: what is left goes in the stop
        "workload": point.workload,
        "warmup": 0.5,
        "run_after": 0.2,
        "seed": seed,
    }
    return MigrationConfig.model_validate(values | WAYS[way] | more)


def every_point() -> Iterator[Point]:
    """Yield all places of the map, the rate changing fastest."""
    yield from _points(LINES, REUSES, RATES)


def read_points() -> Iterator[Point]:
    """Yield the places of the smaller map: half of the accesses read."""
    yield from _points(READ_LINES, READ_REUSES, READ_RATES, reads=0.5)


def measured_points() -> Iterator[Point]:
    """Yield those that are measured, the smaller map last."""
    yield from _points(LINES, MEASURED_REUSES, MEASURED_RATES)
    yield from read_points()


# What `--quick` measures: the corners where the cache does most and least, and between them.
QUICK: Final = (
    Point(1, 32.0, 2.0),
    Point(4, 32.0, 0.5),
    Point(8, 16.0, 2.0),
    Point(64, 32.0, 2.0),
    Point(16, 4.0, 0.5),
    Point(1, 0.125, 0.1),
)


def _points(
    lines: Sequence[int], reuses: Sequence[float], rates: Sequence[float], reads: float = 0.0
) -> Iterator[Point]:
    for count in lines:
        for reuse in reuses:
            for rate in rates:
                yield Point(count, reuse, rate, reads)
