"""Which pages went how often, and where: counted outside the downtime."""

import numpy as np

from pageferry.common.report.page_bins import Binning
from pageferry.source_agent.precopy.activity import Activity
from pageferry.source_agent.precopy.batches import RoundPages


def round_pages(whole: list[int], lined: list[int]) -> RoundPages:
    return RoundPages(np.array(whole), np.array(lined, np.int64), np.ones(len(lined), np.uint64))


def test_rounds_are_columns() -> None:
    activity = Activity(512)  # two pages a bin
    activity.dirtied[3] = 2
    activity.round_done(10, 20, "full", round_pages(list(range(512)), []))
    activity.dirtied[:] = 0
    activity.round_done(20, 30, "dirty", round_pages([6], [7, 9]))
    first, second = activity.columns
    assert (first.start_ns, first.end_ns, first.phase) == (10, 20, "full")
    assert first.sent.tolist() == [2] * Binning(512).bins
    assert np.flatnonzero(first.dirtied).tolist() == [3]
    assert {bin_: int(second.sent[bin_]) for bin_ in np.flatnonzero(second.sent)} == {3: 2, 4: 1}
    assert not second.dirtied.any()
    assert np.flatnonzero(activity.sends == 2).tolist() == [6, 7, 9]


def test_the_last_round_is_counted_when_the_guest_runs_again() -> None:
    activity = Activity(16)
    activity.dirtied[:] = 1
    activity.stopped(30, round_pages([1], [2]))
    assert not activity.columns
    assert not activity.sends.any()
    activity.settle(40)
    activity.settle(50)  # once
    (column,) = activity.columns
    assert (column.phase, column.end_ns, int(column.dirtied.sum())) == ("final", 40, 0)
    assert np.flatnonzero(activity.sends).tolist() == [1, 2]


def test_what_travels_after_the_switch() -> None:
    activity = Activity(4)
    activity.switched(np.array([True, False, True, False]))
    assert activity.sends.tolist() == [1, 0, 1, 0]
