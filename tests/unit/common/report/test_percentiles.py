"""Percentiles by the nearest rank, exact, and in bounded memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.report.latency_histogram import bars_of, fault_counts
from pageferry.common.report.percentiles import Ranks

SHARES = (0.0, 0.5, 0.9, 0.99, 0.999, 1.0)


def of(values: list[int], most: int = 2**22) -> Ranks:
    ranks = Ranks(most)
    ranks.extend(np.array(values, np.int64))
    return ranks


def test_ranks_are_rounded_up() -> None:
    assert of(list(range(1, 160))).at([0.9]) == [144]  # 143.1 of 159
    assert of(list(range(1, 1665))).at([0.999]) == [1663]  # 1662.3 of 1664
    assert of([7]).at(SHARES) == [7] * 6


@given(st.lists(st.integers(0, 2**53), min_size=1, max_size=400))
def test_as_numpy_has_them(values: list[int]) -> None:
    wanted = np.quantile(values, SHARES, method="inverted_cdf").astype(np.int64)
    assert of(values).at(SHARES) == wanted.tolist()


@given(st.lists(st.lists(st.integers(0, 50), max_size=20), max_size=20), st.integers(1, 5))
def test_percentiles_are_exact_however_values_come(groups: list[list[int]], times: int) -> None:
    ranks, all_of_them = Ranks(), []
    for number, group in enumerate(groups):
        all_of_them += group
        if number % 2:
            ranks.extend(np.array(group, np.int64))
        else:
            all_of_them += group * (times - 1)
            for value in group:
                ranks.add(value, times)
    assert ranks.total == len(all_of_them)
    if all_of_them:
        assert (
            ranks.at(SHARES)
            == np.quantile(all_of_them, SHARES, method="inverted_cdf").astype(np.int64).tolist()
        )


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=300), st.integers(1, 20))
def test_beyond_the_bound_they_are_values_that_were_seen(values: list[int], most: int) -> None:
    ranks = of(values, most)
    found = ranks.at(SHARES)
    exact = np.quantile(values, SHARES, method="inverted_cdf")
    assert ranks.counts()[0].size <= most
    assert ranks.total == len(values)
    assert found[-1] == max(values)
    for got, wanted in zip(found, exact, strict=True):
        assert got in values
        assert 0 <= got - wanted < ranks.step


def test_memory_is_bounded() -> None:
    rng = np.random.default_rng(1)
    ranks, most = Ranks(2**16), 2**16
    tracemalloc.start()
    try:
        for _ in range(300):
            ranks.extend(rng.integers(0, 10**10, 10_000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert ranks.total == 3_000_000
    assert peak < 200 * most


def test_there_is_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="no values"):
        Ranks().at([0.5])


def test_bars_count_every_fault_once() -> None:
    ns = np.array([0, 1, 9, 10, 999, 1000, 3_600_000_000_000], np.int64)
    bars = bars_of(ns, np.arange(1, 8))
    assert bars == [(0, 3), (11, 3), (12, 4), (35, 5), (36, 6), (150, 7)]
    counts = fault_counts(bars)
    assert sum(each.faults for each in counts) == 28
    assert counts[4].from_us == pytest.approx(1.0)
    assert all(each.from_us < each.to_us for each in counts)
