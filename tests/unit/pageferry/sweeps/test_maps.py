"""The best competitor at each place, where it is known."""

from __future__ import annotations

import pytest

from pageferry.common.errors import UsageError
from pageferry.common.report.schema import Report
from pageferry.sweeps.cells import Cell
from pageferry.sweeps.maps import choose_axes, maps
from pageferry.sweeps.pictures import words_of
from pageferry.sweeps.show import map_sheet
from tests.support.sweep_tables import PLAN, moved, query


def test_the_best_at_each_place() -> None:
    (found,) = maps(query(), "downtime_ms", *choose_axes(query(), None, None))
    assert (found.x, found.y) == ("max-bandwidth", "workload.rate")
    assert found.columns == (4e7, float("inf"))
    assert found.rows == (4e6, 8e7)
    best = {place: at.ranks[0].name for place, at in found.places.items()}
    assert best == {
        (4e7, 4e6): "pre-copy",
        (float("inf"), 4e6): "pre-copy",
        (4e7, 8e7): "stop-and-copy",
        (float("inf"), 8e7): "stop-and-copy",
    }
    sheet = map_sheet(found, "downtime_ms")
    assert sheet.columns == ("workload.rate \\ max-bandwidth", "40MB/s", "unlimited")
    assert sheet.rows[0] == ("4MB/s", "pre-copy 4 ms", "pre-copy 4 ms")
    assert sheet.rows[1] == ("80MB/s", "stop-and-copy 50 ms", "stop-and-copy 50 ms")


def test_runs_that_overlap_leave_it_open() -> None:
    def become(cell: Cell) -> Report:
        slow = cell.config.strategy == "stop-and-copy"
        return moved(cell).model_copy(update={"downtime_ms": 10.0 + 10 * cell.repeat + 5 * slow})

    made = query("repeats = 2\n" + PLAN, become)
    (found,) = maps(made, "downtime_ms", *choose_axes(made, None, None))
    for place in found.places.values():
        assert place.open
        assert words_of(place, "downtime_ms") == "≈ pre-copy 15 ms"
        assert [rank.figure.greatest for rank in place.ranks] == [20.0, 25.0]
    made = query("repeats = 2\n" + PLAN)
    (found,) = maps(made, "downtime_ms", *choose_axes(made, None, None))
    assert not any(place.open for place in found.places.values())


def test_what_did_not_arrive_whole_is_never_the_best() -> None:
    def become(cell: Cell) -> Report | None:
        if cell.config.strategy == "pre-copy":
            return moved(cell).model_copy(update={"verified": False, "downtime_ms": 0.1})
        return None if cell.row["workload_rate_Bps"] == 8e7 else moved(cell)

    one = query(PLAN, become, "max-bandwidth=40MB/s")
    (found,) = maps(one, "downtime_ms", "workload.rate", None)
    assert [rank.name for rank in found.places[(4e6, None)].ranks] == ["stop-and-copy"]
    assert found.places[(8e7, None)].ranks == ()
    assert words_of(found.places[(8e7, None)], "downtime_ms") == "–"
    groups = query(PLAN, become).groups(["downtime_ms"])
    assert [group.cells for group in groups] == [1] * 8
    assert [group.good for group in groups] == [0, 0, 0, 0, 1, 0, 1, 0]


def test_other_axes_make_more_maps() -> None:
    text = PLAN + "cache = ['0', '1MiB']\n"
    found = maps(query(text), "downtime_ms", "max-bandwidth", "workload.rate")
    assert [each.title for each in found] == ["cache = 0B", "cache = 1MiB"]
    found = maps(query(text), "total_time_ms", *choose_axes(query(text), "cache", None))
    assert [(each.x, each.y, each.title) for each in found] == [
        ("cache", "max-bandwidth", "workload.rate = 4MB/s"),
        ("cache", "max-bandwidth", "workload.rate = 80MB/s"),
    ]
    narrowed = query(text, choice="cache=0,max-bandwidth=40MB/s")
    assert narrowed.count == 4
    assert choose_axes(narrowed, None, None) == ("workload.rate", None)


def test_one_strategy_is_no_contest() -> None:
    assert maps(query(choice="strategy=pre-copy"), "downtime_ms", "max-bandwidth", None) == []


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (
            "cache",
            None,
            "--x: 'cache' is no axis of the sweep: expected max-bandwidth, workload.rate",
        ),
        (None, "strategy", "--y: 'strategy' is no axis"),
        ("max-bandwidth", "max-bandwidth", "--x and --y are both max-bandwidth"),
    ],
)
def test_axes_that_are_none(x: str | None, y: str | None, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        choose_axes(query(), x, y)
