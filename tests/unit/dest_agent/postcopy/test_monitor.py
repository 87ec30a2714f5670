"""What is kept of a guest with pages missing is bounded, and no fault is lost on the way."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pageferry.common.report.page_bins import MOST_COLUMNS
from pageferry.dest_agent.postcopy.monitor import MissingHistory


@given(st.integers(1, 5 * MOST_COLUMNS))
@settings(max_examples=20)
def test_columns_are_bounded_and_count_every_fault(looks: int) -> None:
    columns = MissingHistory()
    for look in range(looks):
        columns.add(look, np.array([looks - look]), np.array([1]))
    wire = columns.wire()
    assert 1 <= len(wire) <= MOST_COLUMNS
    assert sum(each.faulted[0] for each in wire) == looks
    assert wire[-1].t_ns == looks - 1
    assert wire[-1].missing == [1]
    times = [each.t_ns for each in wire]
    assert times == sorted(set(times))


def test_few_columns_are_kept_as_they_come() -> None:
    columns = MissingHistory()
    for t_ns, missing, faulted in ((5, 7, 0), (9, 4, 2), (11, 0, 1)):
        columns.add(t_ns, np.array([missing, 0]), np.array([0, faulted]))
    seen = [(each.t_ns, each.missing, each.faulted) for each in columns.wire()]
    assert seen == [(5, [7, 0], [0, 0]), (9, [4, 0], [0, 2]), (11, [0, 0], [0, 1])]
