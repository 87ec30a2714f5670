"""What part each of the three mechanisms has: cache, held write-backs, lines on the wire.

The same seeded guest moves by `three-path` with every combination of the three switches. Without a
cache nothing can be held, so those pairs coincide: they are run once. Effects are those of the
switches from all of them off: of one alone, of two beyond the sum of both, and of all three beyond
that. Their sum is what all three together save; nothing is left over.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from pageferry.common.config.model import MigrationConfig
from pageferry.paper.locality.points import Point, Way, config_of

FIGURES: Final = ("bytes", "total_ms", "downtime_ms")
_NAMES: Final = {"bytes": "bytes", "total_ms": "total time", "downtime_ms": "downtime"}
SWITCHES: Final = {
    "cache": "the cache",
    "hold": "holding write-backs",
    "lines": "lines on the wire",
}
# Half of the accesses read, so that the cache has lines to evict besides dirty ones; the working
# set is large enough for path 2, without which nothing is held.
GUEST: Final = Point(4, 32.0, 0.5, reads=0.5)
SEEDS: Final = (1, 2, 3, 4)

Switches = frozenset[str]


def combinations() -> Iterator[Switches]:
    """Yield every combination of switches that are on: eight, the least first."""
    for count in range(len(SWITCHES) + 1):
        for chosen in itertools.combinations(SWITCHES, count):
            yield frozenset(chosen)


def same_as(on: Switches) -> Switches:
    """Return the combination that is the same run.

    Args:
        on: The switches that are on.

    Returns:
        Without a cache, the one that holds nothing; else the same.
    """
    return on if "cache" in on else on - {"hold"}


def distinct() -> list[Switches]:
    """List the combinations that are different runs: six of the eight."""
    return list(dict.fromkeys(same_as(on) for on in combinations()))


def config_for(on: Switches, seed: int) -> MigrationConfig:
    """Make the migration of a combination.

    Args:
        on: The switches that are on.
        seed: Of the guest.

    Returns:
        The configuration. Lines are known by the log where there is no cache.
    """
    way = Way.CACHED if "cache" in on else Way.UNCACHED
    return config_of(
        GUEST,
        way,
        seed,
        hold_write_backs="hold" in on,
        granularity="line" if "lines" in on else "page",
        line_tracker="log",
    )


class Ablation(BaseModel):
    """All combinations with all seeds, as they are stored.

    Attributes:
        made: The day on which it was measured, ISO 8601.
        machine: What it was measured on.
        workload: What the guest does.
        runs: Of each distinct combination, the switches that are on and, by figure, a value for
            each seed.
    """

    model_config = ConfigDict(frozen=True)

    made: str
    machine: dict[str, str]
    workload: str
    runs: tuple[tuple[tuple[str, ...], dict[str, tuple[float, ...]]], ...]

    def values(self, figure: str) -> dict[Switches, tuple[float, ...]]:
        """Return a figure of all eight combinations.

        Args:
            figure: One of `FIGURES`.

        Returns:
            A value for each seed, by the switches that are on.
        """
        known = {frozenset(on): values[figure] for on, values in self.runs}
        return {on: known[same_as(on)] for on in combinations()}


@dataclass(frozen=True, slots=True)
class Effects:
    """What the switches save, by figure: means over seeds.

    Attributes:
        workload: What the guest does.
        means: By figure, the mean of each combination.
    """

    workload: str
    means: Mapping[str, Mapping[Switches, float]]

    def of(self, figure: str) -> dict[Switches, float]:
        """Compute the effects of single switches, of pairs, and of all three.

        Args:
            figure: One of `FIGURES`.

        Returns:
            What each saves beyond all of its parts; positive where it makes the figure less.
        """
        means = self.means[figure]
        return {on: -_difference(means, on) for on in combinations() if on}

    def plain(self, figure: str) -> float:
        """Return the figure with all switches off."""
        return self.means[figure][frozenset()]

    def saving(self, figure: str) -> float:
        """Return what all three together save."""
        return self.plain(figure) - self.means[figure][frozenset(SWITCHES)]


def _difference(means: Mapping[Switches, float], on: Switches) -> float:
    """Compute what switches add beyond all subsets of them: the finite difference."""
    return math.fsum(
        (-1.0) ** (len(on) - count) * means[frozenset(chosen)]
        for count in range(len(on) + 1)
        for chosen in itertools.combinations(sorted(on), count)
    )


def effects(found: Ablation, seeds: Sequence[int] | None = None) -> Effects:
    """Compute the effects.

    Args:
        found: What was measured.
        seeds: Places of the seeds that count; None: all.

    Returns:
        The effects.
    """
    means: dict[str, dict[Switches, float]] = {}
    for figure in FIGURES:
        values = found.values(figure)
        chosen = range(len(values[frozenset()])) if seeds is None else seeds
        means[figure] = {
            on: statistics.mean(each[place] for place in chosen) for on, each in values.items()
        }
    return Effects(found.workload, means)


def predicted(found: Ablation, figure: str, left_out: int) -> tuple[float, float]:
    """Say what the other seeds' effects give for one seed's saving.

    Args:
        found: What was measured.
        figure: One of `FIGURES`.
        left_out: The place of the seed that is predicted.

    Returns:
        The saving as the sum of the others' effects, and as it was measured.
    """
    values = found.values(figure)
    others = [place for place in range(len(values[frozenset()])) if place != left_out]
    said = sum(effects(found, others).of(figure).values())
    everything = frozenset(SWITCHES)
    return said, values[frozenset()][left_out] - values[everything][left_out]


def predictions(found: Ablation) -> dict[str, list[tuple[float, float]]]:
    """Predict each seed's saving from the others.

    Args:
        found: What was measured.

    Returns:
        By figure, for each seed, what the others' effects give and what was measured, as shares of
        the figure with all switches off.
    """
    out: dict[str, list[tuple[float, float]]] = {}
    for figure in FIGURES:
        plain = found.values(figure)[frozenset()]
        for place, whole in enumerate(plain):
            said, was = predicted(found, figure, place)
            out.setdefault(figure, []).append((said / whole, was / whole))
    return out


def label(on: Switches) -> str:
    """Write which switches are on: `cache, lines`, or `none`."""
    return ", ".join(name for name in SWITCHES if name in on) or "none"


def notes(found: Ablation) -> list[str]:
    """Say how the tables are read, and how well the effects predict a seed that they do not know.

    Args:
        found: What was measured.

    Returns:
        Paragraphs.
    """
    worst = {
        figure: max(abs(said - was) for said, was in pairs)
        for figure, pairs in predictions(found).items()
    }
    said = ", ".join(f"{_NAMES[figure]} {share:.1%}" for figure, share in worst.items())
    return [
        "Without a cache nothing can be held, so those pairs of combinations coincide and are run"
        " once; lines are known by the log of every write there (--line-tracker log). An effect is"
        " what switches save beyond all of their parts: the effects of a column add up to what all"
        " three save.",
        "What three seeds' effects give for the fourth seed's saving is off by at most this share"
        f" of the whole: {said}. Effects add up exactly, so this is how far seeds differ.",
    ]


def to_json(found: Effects) -> dict[str, Any]:
    """Convert effects for programs.

    Args:
        found: The effects.

    Returns:
        By figure: all switches off, what all three save, and each effect by `cache+lines`.
    """
    return {
        figure: {
            "off": found.plain(figure),
            "saving": found.saving(figure),
            "effects": {"+".join(sorted(on)): value for on, value in found.of(figure).items()},
        }
        for figure in FIGURES
    }
