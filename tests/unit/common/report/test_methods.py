"""A report as an object: kept in a file, and shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from pageferry.common.errors import UsageError
from pageferry.common.report.schema import Report
from tests.support.every_report import completed, failed, full_report
from tests.support.old_reports import REPORTS, SERIES


def test_what_was_saved_is_loaded_again(tmp_path: Path) -> None:
    full_report().save(tmp_path / "run.json")
    full_report().save(str(tmp_path / "run.json"))  # once more: it is replaced
    assert Report.load(str(tmp_path / "run.json")) == full_report()
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("file", REPORTS, ids=lambda file: file.stem)
def test_what_earlier_versions_wrote_is_loaded_and_shown(file: Path) -> None:
    loaded = Report.load(file)
    assert loaded.strategy in loaded._repr_html_()
    assert Report.model_validate_json(loaded.to_json()) == loaded


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "is not JSON"), ('{"schema_version": 2}', "expected 1"), ("[]", "a JSON object")],
)
def test_what_is_no_report_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(UsageError, match=words):
        Report.load(tmp_path / "bad.json")


def test_a_series_is_no_report() -> None:
    with pytest.raises(UsageError, match=r"Reports\.load"):
        Report.load(SERIES)


def test_it_says_where_it_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't write"):
        completed().save(tmp_path / "none" / "run.json")


def test_a_line_says_what_it_is_of() -> None:
    assert repr(completed()) == "<Report: three-path · zipf · 8MiB: completed, 10 ms down>"
    assert repr(failed()).endswith(": failed>")
