"""Expected distinct pages and lines: bounds, and what is known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.workload.mixes import MIXES
from pageferry.sim.flow import Bursts, Steady, VisitFlow
from pageferry.sim.pattern import Pattern, Scatter, Sweep, Visit
from pageferry.sim.workloads import zipf_classes

visits = st.floats(0, 1e9)
visit_kinds: st.SearchStrategy[Visit] = st.one_of(
    st.builds(
        lambda lines, writes, scattered: Visit.of(lines, writes, scattered=scattered),
        st.integers(1, 64),
        st.floats(0, 1),
        st.booleans(),
    ),
    st.builds(
        lambda mix, writes, scattered: Visit.mixed(mix.lines, writes, scattered=scattered),
        st.sampled_from(list(MIXES.values())),
        st.floats(0, 1),
        st.booleans(),
    ),
)
patterns: st.SearchStrategy[Pattern] = st.one_of(
    st.builds(Sweep, st.integers(1, 10**9), visit_kinds),
    st.builds(
        lambda pages, skew, visit: Scatter(*zipf_classes(pages, skew), visit),
        st.integers(1, 10**9),
        st.floats(0, 3),
        visit_kinds,
    ),
)


def total(written: tuple[np.ndarray, np.ndarray]) -> tuple[float, float]:
    return float(written[0].sum()), float(written[1].sum())


@given(patterns, visits, visits)
def test_never_more_than_there_is_and_never_less_than_before(
    pattern: Pattern, one: float, other: float
) -> None:
    before, after = total(pattern.written(min(one, other))), total(pattern.written(max(one, other)))
    assert before[0] <= after[0] * (1 + 1e-9) + 1e-6
    assert before[1] <= after[1] * (1 + 1e-9) + 1e-6
    assert after[0] <= pattern.size * (1 + 1e-9)
    assert after[0] <= max(one, other) * (1 + 1e-9) + 1e-6
    assert after[1] <= 64 * pattern.size * (1 + 1e-9)


@given(patterns, visits, st.one_of(visits, st.just(math.inf)))
def test_a_cache_gives_back_no_more_than_was_written(
    pattern: Pattern, made: float, kept: float
) -> None:
    back, written = total(pattern.written_back(made, kept)), total(pattern.written(made))
    assert back[0] <= written[0] * (1 + 1e-9) + 1e-6
    assert back[1] <= written[1] * (1 + 1e-9) + 1e-6


@given(st.integers(1, 2**28), st.floats(0, 4))
def test_zipf_shares_are_of_one_whole(pages: int, skew: float) -> None:
    count, share = zipf_classes(pages, skew)
    assert count.sum() == pages
    assert (count * share).sum() == pytest.approx(1)
    assert (np.diff(share) <= share[:-1] * 1e-4).all()


@pytest.mark.parametrize("skew", [0.0, 0.5, 0.99, 1.0, 1.3])
def test_zipf_groups_are_their_ranks_on_average(skew: float) -> None:
    exact = np.arange(1.0, 100_001) ** -skew
    exact /= exact.sum()
    count, share = zipf_classes(100_000, skew)
    np.testing.assert_allclose(np.repeat(share, count.astype(int)), exact, rtol=0.1)
    ends = np.cumsum(count).astype(int)
    np.testing.assert_allclose(np.cumsum(count * share), np.cumsum(exact)[ends - 1], rtol=1e-4)


def test_uniform_is_the_classical_occupancy() -> None:
    scatter = Scatter(np.array([1000.0]), np.array([1e-3]), Visit.of(1))
    assert total(scatter.written(1000))[0] == pytest.approx(1000 * (1 - math.exp(-1)))


@pytest.mark.parametrize("flow", [Steady(50.0, 1e3), Bursts(0.5, 25, 100.0)])
def test_both_flows_make_as_many_visits_in_a_period(flow: VisitFlow) -> None:
    assert flow.mean == 50
    assert flow.visits(1.5) - flow.visits(0.5) == pytest.approx(50)
    assert flow.visits(-1) == 0


def test_a_burst_that_takes_longer_than_its_period_is_flat_out() -> None:
    assert Bursts(0.1, 100, 500).visits(2) == 1000
    assert Bursts(0.1, 100, 500).busy == 1
    assert Bursts(0.1, 10, 500).visits(0.11) == pytest.approx(15)
