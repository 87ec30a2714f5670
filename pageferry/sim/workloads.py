"""What each workload writes, as a working set: one function for each, from its own parameters.

They say in figures what the compiled kernels of `common.guest.workloads` do step by step. A kernel
that runs flat out is as fast as its host, which nothing here can know: see `Speed`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np

from pageferry.common.config.guest import GuestConfig
from pageferry.common.guest.seeds import regions
from pageferry.common.units import LINE_SIZE, LINES_PER_PAGE, PAGE_SIZE
from pageferry.common.workload.mixes import Mix
from pageferry.common.workload.region import Region, visits_per_s
from pageferry.common.workload.registry import parse_workload
from pageferry.common.workload.shapes import (
    EXTENT_PAGES,
    FRAMES_PER_S,
    METADATA_SHARE,
    TICK_NS,
    square,
)
from pageferry.common.workload.spec import Chosen
from pageferry.sim.counted import count_trace
from pageferry.sim.flow import Bursts, Steady, VisitFlow
from pageferry.sim.pattern import Figures, Pattern, Scatter, Sweep, Visit
from pageferry.sim.working_set import WorkingSet, WorkingSetPart

_FEW_LINES: Final = 4  # a visit of no more waits for memory at each line
_MATRIX_ACCESSES: Final = 3  # of a step of matrix-multiply
_EXACT_RANKS: Final = 256  # of zipf: each is a class of its own
_CLASSES_PER_OCTAVE: Final = 8


@dataclass(frozen=True, slots=True)
class Speed:
    """Steps a second of a vCPU that runs flat out.

    Attributes:
        in_order: Where its host's caches know the next line: 6.4 GB/s of lines one after another.
        at_random: Where they don't: one line each 100 ns, a DRAM access.
    """

    in_order: float = 100e6
    at_random: float = 10e6

    @classmethod
    def of(cls, steps_per_s: float | None) -> Speed:
        """Make the speed that was asked for, or measured.

        Args:
            steps_per_s: For both figures; None is the defaults.

        Returns:
            The speed.
        """
        return cls() if steps_per_s is None else cls(steps_per_s, steps_per_s)


@dataclass(frozen=True, slots=True)
class _Made:
    """What a function below is given. own: whether the speed was asked for, or measured."""

    workload: Chosen
    region: Region
    speed: Speed
    own: bool

    @property
    def options(self) -> Mapping[str, Any]:
        """The workload's options."""
        return self.workload.options

    @property
    def pages(self) -> int:
        """Pages of its working set, in this region."""
        return int(self.options["working-set"].pages(self.region))

    def paced(self, steps: float, lines: float, *, in_order: bool) -> VisitFlow:
        """Schedule visits of so many steps at the workload's `rate`."""
        fast = in_order and lines > _FEW_LINES
        most = (self.speed.in_order if fast else self.speed.at_random) / steps
        return Steady(visits_per_s(self.options["rate"], self.region), most)


def _idle(made: _Made) -> list[WorkingSetPart]:
    """Write one line of one page, a thousand times a second."""
    return [WorkingSetPart(Steady(1e9 / TICK_NS, made.speed.at_random), Sweep(1, Visit.of(1)), 1)]


def _visits(made: _Made, pattern: Callable[[Visit], Pattern], order: bool) -> WorkingSetPart:
    """Visit `lines` of a page: the same ones each time, or others, or a mixture."""
    options = made.options
    lines: int | Mix = options["lines"]
    writes, scattered = float(options["write-share"]), bool(options["scatter"])
    if isinstance(lines, Mix):
        mean = lines.total / len(lines.lines)
        visit = Visit.mixed(lines.lines, writes, scattered=scattered)
    else:
        mean = float(lines)
        visit = Visit.of(mean, writes, scattered=scattered)
    return WorkingSetPart(made.paced(mean, mean, in_order=order), pattern(visit), mean)


def _sweep(made: _Made) -> list[WorkingSetPart]:
    """Go page by page, and round again."""
    return [_visits(made, lambda visit: Sweep(made.pages, visit), True)]


def _uniform(made: _Made) -> list[WorkingSetPart]:
    """Visit all pages alike: they are one class."""
    return [_visits(made, lambda visit: Scatter(*_evenly(made.pages), visit), False)]


def _zipf(made: _Made) -> list[WorkingSetPart]:
    """Visit rank k in proportion to k^-skew: hot ranks one by one, the rest in groups."""
    classes = zipf_classes(made.pages, float(made.options["skew"]))
    return [_visits(made, lambda visit: Scatter(*classes, visit), False)]


def zipf_classes(pages: int, skew: float) -> tuple[Figures, Figures]:
    """Split pages by rank in Zipf's law: the first 256 one by one, the rest in groups.

    A group of ranks has the mean of its ranks' weights, the sum taken for an integral (midpoint
    rule: exact to a part in 10^5 from rank 256 on).

    Args:
        pages: How many pages there are; at least 1.
        skew: Exponent of the law; 0 is even.

    Returns:
        Pages of each class, and the share of all visits that one page of it has; float64[classes].
    """
    exact = min(pages, _EXACT_RANKS)
    edges = [float(rank) for rank in range(exact + 1)]
    while edges[-1] < pages:
        edges.append(min(math.ceil(edges[-1] * 2 ** (1 / _CLASSES_PER_OCTAVE)), float(pages)))
    ends = np.array(edges)
    count = np.diff(ends)
    low, high = ends[:-1] + 0.5, ends[1:] + 0.5
    if skew == 1:
        weight = np.log(high / low)
    else:
        weight = (high ** (1 - skew) - low ** (1 - skew)) / (1 - skew)
    weight[:exact] = np.arange(1.0, exact + 1) ** -skew
    return count, weight / weight.sum() / count


def _evenly(pages: int) -> tuple[Figures, Figures]:
    return np.array([float(pages)]), np.array([1.0 / pages])


def _io(made: _Made) -> list[WorkingSetPart]:
    """Write extents at random places, page by page, and a line of metadata after each."""
    pages = max(2, made.pages)
    lines = float(made.options["lines"])
    metadata = max(1, pages // METADATA_SHARE)
    flow = made.paced(lines, lines, in_order=True)
    extents = Steady(flow.mean / EXTENT_PAGES, made.speed.at_random)
    return [
        WorkingSetPart(flow, Scatter(*_evenly(pages - metadata), Visit.of(lines)), lines),
        WorkingSetPart(extents, Scatter(*_evenly(metadata), Visit.of(1, scattered=True)), 1),
    ]


def _web(made: _Made) -> list[WorkingSetPart]:
    """Redraw the window at a click and leave a cookie; animate a part of the window in between."""
    region, options = made.region, made.options
    window = min(made.pages, region.pages - 1)
    animation, think = options["animation"], float(options["think"])
    animated = 0 if animation.empty else min(animation.pages(region), window)
    frames = max(1, round(think * FRAMES_PER_S))
    every = float(LINES_PER_PAGE)
    most = made.speed.in_order / every
    return [
        WorkingSetPart(Bursts(think, window, most), Sweep(window, Visit.of(every)), every),
        WorkingSetPart(
            Steady(frames * animated / think, most), Sweep(animated, Visit.of(every)), every, True
        ),
        WorkingSetPart(
            Steady(1 / think, made.speed.at_random),
            Scatter(*_evenly(region.pages - window), Visit.of(1, scattered=True)),
            1,
        ),
    ]


def _game(made: _Made) -> list[WorkingSetPart]:
    """Write all entities, one a line, at the start of every tick; read neighbours on the way."""
    lines = float(made.options["lines"])
    fast = lines > _FEW_LINES
    most = (made.speed.in_order if fast else made.speed.at_random) / lines
    period = 1.0 / int(made.options["ticks"])
    return [
        WorkingSetPart(Bursts(period, made.pages, most), Sweep(made.pages, Visit.of(lines)), lines)
    ]


def _matrix(made: _Made) -> list[WorkingSetPart]:
    """Sweep C line by line; meanwhile read a line a row of A, and one row of B."""
    size = square(made.region)
    matrix = size * size * 8 / PAGE_SIZE
    row = size * 8 / LINE_SIZE  # lines
    steps = made.speed.in_order if made.own else made.speed.in_order / _MATRIX_ACCESSES
    every = float(LINES_PER_PAGE)
    sweep = Steady(math.inf, steps / every)
    columns = max(min(matrix, float(size)), 1.0)  # pages of A that hold one of its columns
    return [
        WorkingSetPart(sweep, Sweep(matrix, Visit.of(every)), every),
        WorkingSetPart(
            Steady(steps / row * columns / size, math.inf),
            Sweep(columns, Visit.of(size / columns, 0.0, scattered=True)),
            0,
        ),
        WorkingSetPart(
            Steady(steps / every, math.inf),
            Sweep(max(row / every, 1.0), Visit.of(min(row, every), 0.0, scattered=True)),
            0,
        ),
    ]


def _trace(made: _Made) -> list[WorkingSetPart]:
    """Take what was counted: a visit is an access."""
    pattern = count_trace(str(made.options["file"]), made.region.pages)
    flow = made.paced(1, LINES_PER_PAGE, in_order=True)
    return [WorkingSetPart(flow, pattern, 1)]


_MODELS: Final[dict[str, Callable[[_Made], list[WorkingSetPart]]]] = {
    "idle": _idle,
    "web-browsing": _web,
    "matrix-multiply": _matrix,
    "game-server": _game,
    "io-intensive": _io,
    "memory-intensive": _sweep,
    "uniform": _uniform,
    "zipf": _zipf,
    "sequential": _sweep,
    "trace": _trace,
}


# Cached: a plan asks for the same guest at each rate, and its `kept_s` takes a search.
@lru_cache(maxsize=1024)
def working_set(
    config: GuestConfig, *, by_line: bool, steps_per_s: float | None = None
) -> tuple[WorkingSet, float]:
    """Model what a guest writes; the last results are kept.

    Args:
        config: The guest.
        by_line: Whether pages travel as their changed lines where that is shorter.
        steps_per_s: Speed of a vCPU that runs flat out; None is `Speed`'s own.

    Returns:
        The working set, and the share of the guest's memory that is zero at the start.

    Raises:
        UsageError: The workload's text is wrong, or its trace can't be read.
    """
    workload = parse_workload(config.workload)
    made = _Made(workload, regions(config)[0], Speed.of(steps_per_s), steps_per_s is not None)
    parts = _MODELS[workload.name](made)
    lines = _cache_lines(config, parts[0].steps)
    if workload.name == "game-server":
        lines = min(lines, _in_conflict(config, parts[0].steps))
    return WorkingSet(parts, config.vcpus, lines, by_line), workload.zero_share


def _cache_lines(config: GuestConfig, lines: float) -> float:
    """Count the 64-byte lines of a vCPU's cache; a longer line holds what a visit wants of it."""
    useful = min(max(lines, 1.0), config.cache_line / LINE_SIZE)
    return config.cache_part / config.cache_line * useful


def _in_conflict(config: GuestConfig, lines: float) -> float:
    """Count the cache lines for a world whose entities lie where their page's number says.

    The entities of each 64th page are at the same place in it. Where sets are numbered as lines
    are, they fall in the same sets.
    """
    every = config.cache_line / LINE_SIZE
    sets = config.cache_part / (config.cache_line * config.cache_ways)
    used = max(sets * every / LINES_PER_PAGE, LINES_PER_PAGE / every) * lines
    return min(used, sets) * config.cache_ways
