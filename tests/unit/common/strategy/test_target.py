"""Whether a stop is taken, for rows of expected downtimes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.common.strategy.target import Target
from tests.support.strategy_contract import stats

LIMIT_S = 0.3


def stops(expected_ms: list[float], limit_s: float = LIMIT_S) -> int | None:
    """After how many rounds."""
    target = Target(limit_s)
    for index, ms in enumerate(expected_ms, 1):
        if target.judge(stats(index, switchover_s=ms / 1e3)).fits:
            return index
    return None


@pytest.mark.parametrize(
    ("expected_ms", "after"),
    [
        ([210], 1),
        ([211, 209], 2),
        ([299, 220, 209], 3),  # rounds shrink: the margin is waited for
        ([1000, 290, 290, 290], 4),  # they do not any more
        ([1000, 290, 280, 270], 4),  # nor enough
        ([1000, 290, 285, 250, 200], 5),  # one round says little
        ([500, 310, 305, 301, 299], 5),
        ([500, 301, 301, 301], None),  # never fits
        ([290, 320, 290, 320, 290], 3),  # now and then
    ],
)
def test_it_stops_at_the_limit_or_where_it_gets_no_better(
    expected_ms: list[float], after: int | None
) -> None:
    assert stops(expected_ms) == after


@given(rows=st.lists(st.floats(1, 1000), min_size=1, max_size=60))
def test_a_larger_limit_never_means_more_rounds(rows: list[float]) -> None:
    ends = [stops(rows, limit_s) or len(rows) + 1 for limit_s in (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)]
    assert ends == sorted(ends, reverse=True)


@given(rows=st.lists(st.floats(1, 300), min_size=30, max_size=30))
def test_no_more_than_fifteen_rounds_that_would_fit(rows: list[float]) -> None:
    assert (stops(rows) or 99) <= 15
