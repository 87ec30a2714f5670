"""What `sweep show --sql` is asked: one query, or one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pageferry.cli import make_app
from pageferry.common.command_line.run import run_app
from tests.support.command_line import Run, pageferry
from tests.support.tiers import FULL

pytest.importorskip("duckdb")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("sql")
    plan = folder / "plan.toml"
    plan.write_text(
        'runner = "simulate"\n[options]\nmemory = "16MiB"\n[grid]\ncache = ["0", "4MiB"]\n'
    )
    run = pageferry("sweep", str(plan), "--output", str(folder / "results"))
    assert run.exit_code == 0, run.stderr
    return str(folder / "results")


def show(results: str, sql: str, capsys: pytest.CaptureFixture[str]) -> Run:
    """Its answer, by default without a process for each: a third of a second."""
    words = ["sweep", "show", results, "--sql", sql]
    if FULL:
        return pageferry(*words)
    code = run_app(make_app(), words)
    return Run(code, *capsys.readouterr())


@pytest.mark.parametrize(
    "sql",
    [
        "",
        ";",
        "  \n ",
        "-- only a comment",
        "/* another */ ;",
        "SELECT 1; SELECT 2",
        "CREATE TABLE x (i INT)",
        "DROP TABLE results",
        "SET threads = 1",
        "SELECT",
        "SELECT nothing FROM results",
    ],
)
def test_what_is_no_query_is_one_line(
    sql: str, results: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = show(results, sql, capsys)
    assert run.exit_code == 2, run.stdout
    assert run.complaint.startswith("pageferry: --sql: ")
    assert sum(line.startswith("pageferry: ") for line in run.lines) == 1
    assert run.stdout == ""


def test_no_file_is_written_by_a_query(results: str, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    run = pageferry("sweep", "show", results, "--sql", f"COPY results TO '{target}'")
    assert (run.exit_code, target.exists()) == (2, False)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) AS n FROM results;",
        "FROM results SELECT strategy -- all",
        "WITH a AS (SELECT 1 AS n) SELECT * FROM a",
        "SUMMARIZE results",
        "DESCRIBE results",
        "PIVOT results ON cache_bytes USING count(*)",
        "SELECT * FROM results WHERE false",
    ],
)
def test_a_query_is_answered(sql: str, results: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = show(results, sql, capsys)
    assert run.exit_code == 0, run.stderr
    assert run.stdout
