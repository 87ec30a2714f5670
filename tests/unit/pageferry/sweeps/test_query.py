"""Results in DuckDB, questions about them, and their pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pageferry.common.errors import UsageError
from pageferry.sweeps.curves import curves
from pageferry.sweeps.maps import maps
from pageferry.sweeps.parquet import read_parquet, to_parquet
from pageferry.sweeps.pictures import MOST_PICTURES, draw_sweep
from pageferry.sweeps.show import to_csv, to_sheet
from tests.support.sweep_tables import PLAN, query, run


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
    made = draw_sweep(
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
    made = draw_sweep(maps(lone, "downtime_ms", None, None), curves(lone), "downtime_ms")
    assert [picture.figure for picture in made] == [None, None]
    assert all("There is no" in picture.missing for picture in made)


def test_more_than_anybody_looks_at() -> None:
    text = PLAN + f"max-rounds = {list(range(1, MOST_PICTURES + 3))}\n"
    found = query(text)
    made = draw_sweep(
        maps(found, "downtime_ms", "max-bandwidth", "workload.rate"), curves(found), "x"
    )
    assert len(made) == 2 * MOST_PICTURES
