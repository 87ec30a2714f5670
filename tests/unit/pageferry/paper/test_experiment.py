"""Which runs reproduce the paper, and how long they are said to take."""

from __future__ import annotations

import pytest

from pageferry.common.strategy import NextRound, RoundKind, RoundStats, StopAndCopy, make_strategy
from pageferry.paper import published
from pageferry.paper.experiment import (
    QUICK_SCALE,
    UNMET_LIMIT_S,
    ExperimentCell,
    Setting,
    estimate_s,
    experiment_cells,
)

BOTH = (1e8, 1.25e7)


def loads(cells: list[ExperimentCell], rate: float) -> list[tuple[str, str, bool]]:
    return [
        (cell.case.config.workload, cell.strategy, cell.cached)
        for cell in cells
        if cell.load is not None and cell.rate == rate
    ]


@pytest.mark.parametrize("rate", BOTH)
def test_every_load_with_the_cache_and_without(rate: float) -> None:
    assert loads(experiment_cells(Setting(BOTH)), rate) == [
        ("idle", "three-path", True),
        ("idle", "pre-copy", False),
        ("io-intensive", "three-path", True),
        ("io-intensive", "pre-copy", False),
        ("io-intensive", "three-path", False),
        ("memory-intensive", "three-path", True),
        ("memory-intensive", "pre-copy", False),
    ]


def test_the_papers_sizes_and_the_same_seed() -> None:
    for cell in experiment_cells(Setting(BOTH, seed=7)):
        config = cell.case.config
        assert config.memory == 512 * 2**20
        assert config.cache == (4 * 2**20 if cell.cached else 0)
        assert config.seed == 7
        assert config.max_bandwidth == cell.rate
        assert config.max_rounds == 9
        assert (config.low, config.high) == (0.1, 0.5)
        assert config.verify


def test_examples_once_with_the_cache() -> None:
    examples = [cell for cell in experiment_cells(Setting(BOTH)) if cell.example is not None]
    found = [(cell.case.config.workload, cell.example and cell.example.path) for cell in examples]
    assert found == [("web-browsing", 1), ("matrix-multiply", 2), ("game-server", 3)]
    assert all(cell.cached and cell.strategy == "three-path" for cell in examples)


def test_every_cell_has_a_label_of_its_own() -> None:
    labels = [cell.case.label for cell in experiment_cells(Setting(BOTH))]
    assert len(set(labels)) == len(labels) == 17


def test_quick_keeps_proportions() -> None:
    quick = Setting(BOTH[:1], scale=QUICK_SCALE)
    assert quick.memory / quick.cache == published.MEMORY / published.CACHE
    assert len(experiment_cells(quick)) == 10


def stats(index: int, dirty_pages: int) -> RoundStats:
    return RoundStats(
        index=index,
        kind=RoundKind.DIRTY,
        pages_total=131_072,
        pages_sent=dirty_pages,
        bytes_sent=dirty_pages * 4096,
        duration_s=0.001,
        dirty_pages_after=dirty_pages,
        remaining_bytes=0,
        dirty_rate_Bps=0.0,
        bandwidth_Bps=1e8,
        switchover_s=0.002,
        elapsed_s=1.0,
    )


@pytest.mark.parametrize("dirty_pages", [0, 1, 30_000])
def test_without_the_cache_there_are_nine_rounds_whatever_they_see(dirty_pages: int) -> None:
    config = next(
        cell.case.config for cell in experiment_cells(Setting(BOTH)) if cell.strategy == "pre-copy"
    )
    assert config.downtime_limit == UNMET_LIMIT_S
    strategy = make_strategy(config)
    decision = strategy.begin()
    dirty_rounds = -1  # the full one
    while isinstance(decision, NextRound):
        dirty_rounds += 1
        decision = strategy.decide(stats(dirty_rounds + 1, dirty_pages))
    assert dirty_rounds == published.FIXED_ROUNDS
    assert isinstance(decision, StopAndCopy)


def test_the_estimate_grows_with_what_is_sent() -> None:
    fast, slow = (estimate_s(experiment_cells(Setting((rate,))), 1) for rate in BOTH)
    quick = estimate_s(experiment_cells(Setting(BOTH[:1], scale=QUICK_SCALE)), 1)
    assert quick < 60 < fast < slow
    assert estimate_s(experiment_cells(Setting(BOTH)), 3) == pytest.approx(
        3 * estimate_s(experiment_cells(Setting(BOTH)), 1)
    )
    # 512 MiB at 12.5 MB/s are 43 s, seven times with rounds of the memory load on top.
    assert 7 * 43 < slow < 3600
