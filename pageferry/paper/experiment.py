"""The runs that reproduce the paper's experiment, and how long they will take.

Every load moves twice over every link: with the cache by `three-path`, and without one by
`pre-copy`. Both have the same fixed number of rounds, so pre-copy must not stop early: its downtime
limit is set to what no stop can meet, and it does all of its rounds whatever it sees. The I/O load
moves a third time, by `three-path` without a cache; otherwise a different hand-over would pass for
the cache's doing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pageferry.common.config.model import MigrationConfig
from pageferry.common.units import format_rate, format_size
from pageferry.paper import published
from pageferry.runs.series import Case

QUICK_SCALE: Final = 16  # `--quick` divides memory and cache by this
UNMET_LIMIT_S: Final = 1e-6  # a downtime that no stop can meet

# What a run costs besides its transfer, measured on two cores: mostly starting Python.
_START_S: Final = 3.0
_PER_BYTE_S: Final = 3.0 / 2**30  # filling memory, and comparing digests

# Share of memory that a load keeps changing, and how fast it does (bytes/s of pages).
_CHANGES: Final = {
    "idle": (0.0, 0.0),
    "io-intensive": (0.25, 40e6),
    "memory-intensive": (0.5, math.inf),
    "web-browsing": (0.03, math.inf),
    "matrix-multiply": (1 / 3, math.inf),
    "game-server": (0.6, math.inf),
}


@dataclass(frozen=True, slots=True)
class Setting:
    """What is asked for.

    Attributes:
        rates: Of the link, bytes/s; the examples run at the first.
        scale: Memory and cache are this much smaller than the paper's.
        seed: Of the guest's memory and workload.
        path3: How path 3, and a path 2 out of rounds, hands over.
        verify: Whether the guest is replayed and digests are compared.
        examples: Whether the worked examples are run, too.
    """

    rates: tuple[float, ...]
    scale: int = 1
    seed: int = 1
    path3: str = "post-copy"
    verify: bool = True
    examples: bool = True

    @property
    def memory(self) -> int:
        """Bytes of the guest."""
        return published.MEMORY // self.scale

    @property
    def cache(self) -> int:
        """Bytes of its cache, where it has one."""
        return published.CACHE // self.scale

    @property
    def lead_s(self) -> float:
        """How long the guest runs before and after."""
        return 1.0 if self.scale == 1 else 0.2


@dataclass(frozen=True, slots=True)
class ExperimentCell:
    """One case of the experiment: a load or an example, how it moves, and what the paper says.

    Attributes:
        case: What is run.
        rate: Of the link, bytes/s.
        load: None of an example.
        example: None of a load.
        printed: The paper's row; None where it has none.
    """

    case: Case
    rate: float
    load: published.Load | None
    example: published.Example | None
    printed: published.Printed | None

    @property
    def cached(self) -> bool:
        """Whether the guest has a cache."""
        return self.case.config.cache > 0

    @property
    def strategy(self) -> str:
        """The strategy by which it moves."""
        return self.case.config.strategy


def experiment_cells(setting: Setting) -> list[ExperimentCell]:
    """List every load at every rate, then the examples at the first rate, where they are wanted.

    Args:
        setting: What is asked for.

    Returns:
        The cells, in the order in which they are run.
    """
    cells = [cell for rate in setting.rates for cell in _loads(setting, rate)]
    for example in published.EXAMPLES if setting.examples else ():
        rate = setting.rates[0]
        config = _config(setting, rate, example.workload, "three-path", setting.cache)
        case = Case(f"section {example.section}, {example.workload}", config)
        cells.append(ExperimentCell(case, rate, None, example, None))
    return cells


def _loads(setting: Setting, rate: float) -> list[ExperimentCell]:
    cells = []
    for load in published.LOADS:
        ways: list[tuple[str, int, published.Printed | None]] = [
            ("three-path", setting.cache, load.printed),
            ("pre-copy", 0, load.uncached),
        ]
        if load is published.IO:
            ways.append(("three-path", 0, None))
        for strategy, cache, printed in ways:
            config = _config(setting, rate, load.workload, strategy, cache)
            said = f"cache {format_size(cache)}" if cache else "no cache"
            label = f"{load.workload}, {strategy}, {said}, {format_rate(rate)}"
            cells.append(ExperimentCell(Case(label, config), rate, load, None, printed))
    return cells


def _config(
    setting: Setting, rate: float, workload: str, strategy: str, cache: int
) -> MigrationConfig:
    values = {
        "memory": setting.memory,
        "cache": cache,
        "workload": workload,
        "strategy": strategy,
        "max_rounds": published.FIXED_ROUNDS,
        "path3": setting.path3,
        "max_bandwidth": rate,
        "seed": setting.seed,
        "verify": setting.verify,
        "warmup": setting.lead_s,
        "run_after": setting.lead_s,
    }
    if strategy == "pre-copy":
        values["downtime_limit"] = UNMET_LIMIT_S
    return MigrationConfig.model_validate(values)


def estimate_s(cells: Sequence[ExperimentCell], runs: int) -> float:
    """Estimate for the user how long it will take; nothing is measured.

    Args:
        cells: What is run.
        runs: How often each cell is run.

    Returns:
        Seconds.
    """
    return runs * sum(_estimate_s(cell.case.config) for cell in cells)


def _estimate_s(config: MigrationConfig) -> float:
    rate = min(config.max_bandwidth, 1e9)
    share, dirtied_Bps = _CHANGES[config.workload]
    most = share * config.memory

    def changed(seconds: float) -> float:
        return min(most, dirtied_Bps * seconds) if most else 0.0

    last = total = config.memory / rate
    ratio = changed(last) / config.memory
    if config.strategy == "pre-copy":
        rounds = config.max_rounds + 1
    elif ratio >= config.high or ratio < config.low:
        rounds = 1
    else:
        rounds = config.max_rounds + 2
    for done in range(rounds):
        last = changed(last) / rate
        total += last
        small = changed(last) < config.low * config.memory
        if config.strategy == "three-path" and done >= 1 and small:
            break
    overhead = _START_S + config.warmup + config.run_after + config.memory * _PER_BYTE_S
    return total + overhead
