"""Tables, maps and curves of results whose best is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pageferry.common.errors import UsageError
from pageferry.common.report.schema import Report
from pageferry.common.report.sections.rounds import DecisionReport
from pageferry.sweeps.cells import Cell
from pageferry.sweeps.choice import parse_choice
from pageferry.sweeps.parquet import read_parquet, to_parquet
from pageferry.sweeps.pictures import MOST_PICTURES, pictures, words_of
from pageferry.sweeps.query import Query, choose_axes, curves, maps
from pageferry.sweeps.show import map_sheet, to_csv, to_sheet
from tests.support.plain_reports import report
from tests.support.sweep_tables import MIGRATE, PLAN, moved, run


def query(text: str = PLAN, become: Any = moved, choice: str | None = None) -> Query:
    wanted = None if choice is None else parse_choice(choice, MIGRATE)
    return Query(run(text, become)[0], MIGRATE, wanted)


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


def test_downtime_against_dirty_rate_over_bandwidth() -> None:
    (found,) = curves(query())
    points = {
        curve.name: [(ratio, spread.median) for ratio, spread in curve.points]
        for curve in found.curves
    }
    # Without a limit of bandwidth there is no ratio: half of the cells are not here.
    assert points == {
        "pre-copy": [(0.1, 4.0), (2.0, 80.0)],
        "stop-and-copy": [(0.1, 50.0), (2.0, 50.0)],
    }


def test_points_of_two_bandwidths_are_not_joined() -> None:
    text = PLAN.replace('"unlimited"', '"800MB/s"').replace('"4MB/s"', '"4MB/s", "1600MB/s"')
    (found,) = curves(query(text))
    lines = [(curve.name, curve.bandwidth_Bps) for curve in found.curves]
    assert sorted(lines) == sorted(
        (name, rate) for name in ("pre-copy", "stop-and-copy") for rate in (4e7, 8e8)
    )
    ratios = [[ratio for ratio, _ in curve.points] for curve in found.curves]
    assert sorted(map(tuple, ratios)) == [(0.005, 0.1, 2.0)] * 2 + [(0.1, 2.0, 40.0)] * 2
    made = pictures([], [found], "x")[-1]
    assert made.figure is not None
    assert sum(trace["showlegend"] for trace in made.figure["data"]) == 2


def test_a_rate_that_was_not_asked_for_is_the_measured_one() -> None:
    text = PLAN.replace('workload.rate = ["4MB/s", "80MB/s"]', "")

    def become(cell: Cell) -> Report:
        decision = DecisionReport(after_round=1, dirty_rate=2e7, decision="x", reason="y")
        return report(strategy=cell.config.strategy, decisions=[decision])

    (found,) = curves(query(text, become))
    assert [ratio for curve in found.curves for ratio, _ in curve.points] == [0.5, 0.5]


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


def test_figures_that_are_none() -> None:
    found = query()
    assert found.check_figure("postcopy_faults", "--best-by") == "postcopy_faults"
    for wrong in ("strategy", "nothing", 'x"; DROP TABLE results'):
        with pytest.raises(
            UsageError, match=r"--best-by: .* is no figure of the results: expected"
        ):
            found.check_figure(wrong, "--best-by")


def test_questions_of_ones_own() -> None:
    found = query()
    answer = found.ask("SELECT strategy, count(*) n, max(downtime_ms) FROM results GROUP BY 1")
    assert sorted(answer.rows) == [("pre-copy", 4, 80.0), ("stop-and-copy", 4, 50.0)]
    assert to_csv(answer).splitlines()[0] == "strategy,n,max(downtime_ms)"
    sheet = to_sheet(found.ask("SELECT strategy, timeout_s, 1.5, 7 FROM results LIMIT 1"))
    assert sheet.rows == (("pre-copy", "–", "1.5", "7"),)
    assert sheet.left == 2
    with pytest.raises(UsageError, match=r"--sql: .*nowhere") as caught:
        found.ask("SELECT *\nFROM nowhere")
    assert "\n" not in str(caught.value)


def test_a_file_says_as_much_as_the_folder(tmp_path: Path) -> None:
    results, kept = run(PLAN)
    file = tmp_path / "results.parquet"
    file.write_bytes(to_parquet(results))
    again = read_parquet(file)
    assert again.table.equals(results.table)
    assert (again.name, again.runner, again.of) == ("made", "migrate", 8)
    assert again.axes == ("strategy", "max-bandwidth", "workload.rate")
    key = again.table["cell"][0].as_py()
    assert json.loads(kept.reports[key] or "")["verified"] is True
    assert again.table["report"][0].as_py() == f"reports/{key}.json"


def test_files_that_have_no_results(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = tmp_path / "a.parquet"
    with pytest.raises(UsageError, match="can't be read: No such file"):
        read_parquet(file)
    file.write_bytes(b"PAR1 no, it is not")
    with pytest.raises(UsageError, match="is no Parquet file"):
        read_parquet(file)
    pq.write_table(pa.table({"a": [1]}), file)
    with pytest.raises(UsageError, match="has no results of a sweep"):
        read_parquet(file)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"axes": ["nonsense"]}, "axes.0: 'nonsense': unknown option"),
        ({"axes": [["strategy"]]}, "has no results of a sweep"),
        ({"runner": "nobody"}, "runner: unknown 'nobody'"),
        ({"name": "\ud800"}, "has no results of a sweep"),
    ],
)
def test_results_that_say_what_none_of_ours_do(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    results, _ = run(PLAN)
    about = json.loads(results.table.schema.metadata[b"pageferry"]) | change
    file = tmp_path / "a.parquet"
    crafted = results.table.replace_schema_metadata({b"pageferry": json.dumps(about)})
    pq.write_table(crafted, file)
    with pytest.raises(UsageError, match=said):
        read_parquet(file)


def test_a_column_of_another_type(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = run(PLAN)[0].table
    place = table.schema.get_field_index("downtime_ms")
    words = pa.array(["much"] * table.num_rows)
    pq.write_table(table.set_column(place, "downtime_ms", words), tmp_path / "a.parquet")
    with pytest.raises(UsageError, match="column downtime_ms has string: expected float64"):
        read_parquet(tmp_path / "a.parquet")


def test_a_colour_means_the_same_everywhere() -> None:
    text = PLAN + "cache = ['0', '1MiB']\n"
    found = query(text)
    made = pictures(
        maps(found, "downtime_ms", "max-bandwidth", "workload.rate"), curves(found), "x"
    )
    assert [picture.key for picture in made] == ["best0", "best1", "curve0", "curve1"]
    colours = set()
    for picture in made:
        assert picture.look
        assert picture.figure is not None
        for trace in picture.figure["data"]:
            if trace["type"] == "scatter":
                colours.add((trace["name"], trace["line"]["color"]))
            else:
                assert trace["z"] == [[0, 0], [1, 1]]  # pre-copy below, stop-and-copy above
                assert "pre-copy<br>4" in trace["text"][0][0]
    assert colours == {("pre-copy", "var(--way-b)"), ("stop-and-copy", "var(--way-e)")}
    assert made[0].figure is not None
    assert [c for _, c in made[0].figure["data"][0]["colorscale"]] == [
        *["var(--way-b)"] * 2,
        *["var(--way-e)"] * 2,
    ]


def test_what_there_is_not_is_said() -> None:
    lone = query("grid.max-bandwidth = ['unlimited']", lambda _cell: None)
    made = pictures(maps(lone, "downtime_ms", None, None), curves(lone), "downtime_ms")
    assert [picture.figure for picture in made] == [None, None]
    assert all("There is no" in picture.missing for picture in made)


def test_more_than_anybody_looks_at() -> None:
    text = PLAN + f"max-rounds = {list(range(1, MOST_PICTURES + 3))}\n"
    found = query(text)
    made = pictures(
        maps(found, "downtime_ms", "max-bandwidth", "workload.rate"), curves(found), "x"
    )
    assert len(made) == 2 * MOST_PICTURES
