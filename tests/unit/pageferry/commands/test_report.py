"""`pageferry report`: what it reads, what it refuses, and what it calls the runs."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pageferry.commands.report import read_results, report
from pageferry.common.errors import UsageError
from pageferry.runs.document import SeriesDocument, SheetDocument
from pageferry.runs.results import read_result
from tests.support.every_report import completed, failed, full_report
from tests.support.html_arrays import figures_of


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    def write(name: str, text: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        return file

    return write


Write = Callable[[str, str], Path]


def changed(**changes: Any) -> str:
    return json.dumps(json.loads(completed().to_json()) | changes)


BAR = {"from_us": -1, "to_us": 2, "faults": 1}
BAD = {
    "not JSON": ("{", "is not JSON: "),
    "not text": ("\x00", "is not JSON: "),
    "deep": ("[" * 100_000, "is not JSON: "),
    "a list": ("[]", "expected a JSON object"),
    "no version": ("{}", "has no schema_version: expected 1"),
    "another version": ('{"schema_version": 2}', "has schema_version 2: expected 1"),
    "true for a version": ('{"schema_version": true}', "has schema_version True"),
    "another result": ('{"schema_version": 1}', "is no report of a migration"),
    "no fields": ('{"schema_version": 1, "outcome": "completed"}', "session: it is missing"),
    "no runs": ('{"schema_version": 1, "runs": [], "table": []}', "expected at least one"),
    "runs of another kind": (
        '{"schema_version": 1, "runs": 3, "table": []}',
        "runs: 3 is not a l",
    ),
    "a run that is wrong": (
        '{"schema_version": 1, "runs": [{"strategy": 1}], "table": []}',
        r"runs\.0\.session: ",
    ),
    "a wrong field": (changed(rounds=[{"index": "x"}]), r"rounds\.0\.index: 'x' is not a whole"),
    "an unknown field": (changed(speed=1), "speed: unknown"),
    "half of a surrogate pair": (changed(error="\ud800"), "error: .* half of a surrogate pair"),
    "nested": (changed(config={"a": json.loads("[" * 900 + "]" * 900)}), "config.a.*too deep"),
    "digits for a number": (changed(bytes_on_wire="9" * 400), "bytes_on_wire: "),
    "an option of another type": (changed(config={"inject": 1}), "config.inject: 1: expected a l"),
    "an option that is a list": (changed(config={"memory": [1]}), "config.memory: .1.: expected o"),
    "a latency below zero": (
        changed(postcopy=json.loads(full_report().to_json())["postcopy"] | {"fault_counts": [BAR]}),
        r"postcopy\.fault_counts\.0\.from_us: ",
    ),
    "a long name": (changed(**{"x" * 5000: 1}), "x{200}…: "),
    "a huge number": (f'{{"schema_version": {"1" * 5000}}}', "is not JSON: "),
}


@pytest.mark.parametrize("name", BAD)
def test_one_line_that_names_the_file(name: str, write: Write) -> None:
    text, expected = BAD[name]
    file = write("bad.json", text)
    with pytest.raises(UsageError, match=expected) as caught:
        read_result(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.json can't be read: No such file"):
        read_result(tmp_path / "none.json")
    with pytest.raises(UsageError, match="can't be read: Is a directory"):
        read_result(tmp_path)


def series(**changes: Any) -> str:
    values = {
        "runs": [completed(), failed(), full_report()],
        "table": [
            {"label": "first", "runs": [0, 2], "downtime_ms": 10.0, "verified": True},
            {"label": "second", "runs": [1], "downtime_ms": None, "verified": None},
        ],
        "sheets": [SheetDocument(title="as printed", columns=["a"], rows=[["1"]])],
        "notes": ["a note"],
    }
    return SeriesDocument.model_validate(values | changes).to_json()


def test_files_of_either_kind_in_order(write: Write) -> None:
    files = [write("one.json", completed().to_json()), write("two.json", series())]
    found = read_results(files)
    assert found.labels == ["one", "two: first, run 1", "two: second", "two: first, run 2"]
    assert [each.outcome for each in found.reports] == [*["completed"] * 2, "failed", "completed"]
    assert [sheet.title for sheet in found.sheets] == ["as printed"]
    assert found.notes == ["a note"]


def test_one_series_needs_no_name(write: Write) -> None:
    assert read_results([write("two.json", series())]).labels[0] == "first, run 1"


def test_files_of_one_name_are_told_apart(write: Write) -> None:
    files = [write(f"{folder}/r.json", completed().to_json()) for folder in "ab"]
    assert read_results(files).labels == [str(file) for file in files]


def test_a_table_that_does_not_say_how_it_was_printed(write: Write) -> None:
    (sheet,) = read_results([write("two.json", series(sheets=[]))]).sheets
    assert sheet.columns == ["label", "downtime ms", "verified"]
    assert sheet.rows == [["first", "10", "yes"], ["second", "–", "–"]]


def test_rows_that_say_nothing_of_their_runs(write: Write) -> None:
    rows = [{"runs": "all"}, {"label": "x", "runs": [-1, 99, "0"]}, {"label": 3, "runs": [0]}]
    found = read_results([write("two.json", series(table=rows))])
    assert found.labels == ["three-path, run 1", "pre-copy, run 2", "three-path, run 3"]


def test_what_a_later_command_may_add_is_passed_over(write: Write) -> None:
    text = json.dumps(json.loads(series()) | {"scale": 16, "cache_effect": []})
    assert len(read_results([write("r.json", text)]).reports) == 3


def test_html_writes_one_page_that_draws_the_speed(write: Write, tmp_path: Path) -> None:
    out = tmp_path / "out.html"
    assert report(write("one.json", completed().to_json()), html=str(out)) == 0
    assert "speed" in figures_of(out.read_text())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.json", "out.html"]


def test_a_page_that_fails_leaves_the_old_one(write: Write, tmp_path: Path) -> None:
    out = write("out.html", "old")
    with pytest.raises(UsageError):
        report(write("bad.json", "{"), html=str(out))
    assert out.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.json", "out.html"]


def test_a_number_that_is_too_large(write: Write, tmp_path: Path) -> None:
    file = write("big.json", changed(bytes_on_wire=10**400))
    with pytest.raises(UsageError, match=r"big\.json: bytes_on_wire: a number is too large"):
        report(file, html=str(tmp_path / "out.html"))


def test_names_that_can_not_be(write: Write, tmp_path: Path) -> None:
    file = write("one.json", completed().to_json())
    with pytest.raises(UsageError, match="at least one"):
        report(html=str(tmp_path / "out.html"))
    for name in ("", "-"):
        with pytest.raises(UsageError, match="--html needs the name"):
            report(file, html=name)
    with pytest.raises(UsageError, match="is one of the results"):
        report(file, html=str(file))
    with pytest.raises(UsageError, match="/nonexistent"):
        report(file, html="/nonexistent/out.html")


@pytest.mark.parametrize("damaged", ["HISTF", "HISTFAAAABl4nA=="])
def test_a_damaged_histogram_is_said(
    damaged: str, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    old = full_report()
    assert old.postcopy is not None
    old.postcopy.fault_counts, old.postcopy.fault_histogram = [], damaged
    files = [write("old.json", old.to_json()), write("new.json", full_report().to_json())]
    for chosen in (files[:1], files):
        report(*chosen)
        said = " ".join(capsys.readouterr().out.split())
        assert said.count("how long faults took can't be read") == 1
        assert "old: how long faults took" in said


def test_a_report_is_read_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = io.TextIOWrapper(io.BytesIO(completed().to_json().encode()))
    monkeypatch.setattr(sys, "stdin", given)
    assert report(Path("-")) == 0
    assert "three-path" in capsys.readouterr().out
    with pytest.raises(UsageError, match="standard input is not JSON"):
        report(Path("-"))
    with pytest.raises(UsageError, match="report has no option --nosuch"):
        report(Path("--nosuch"))


def test_the_schema_is_printed_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(schema=True) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["properties"]["schema_version"]["const"] == 1
    with pytest.raises(UsageError, match="nothing else beside it"):
        report(Path("run.json"), schema=True)
