"""Several reports as one object."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pageferry.common.errors import UsageError
from pageferry.common.report.failure import MigrationError
from pageferry.runs.document import SeriesDocument
from pageferry.runs.reports import Reports
from tests.support.old_reports import REPORTS, SERIES
from tests.support.plain_reports import report


def made(*outcomes: str, **more: object) -> Reports:
    runs = [report(outcome=each) for each in outcomes if each != "none"]
    table = [
        {
            "label": f"case {n}",
            "runs": [] if each == "none" else [n],
            "outcome": "completed" if each == "completed" else "failed",
            "errors": [] if each == "completed" else ["it broke"],
        }
        for n, each in enumerate(outcomes)
    ]
    return Reports(SeriesDocument.model_validate({"runs": runs, "table": table} | more))


def test_it_is_a_sequence_with_labels() -> None:
    reports = made("completed", "completed")
    assert len(reports) == len(reports[:]) == 2
    assert reports.labels == reports.cases == ["case 0", "case 1"]
    assert reports.of("case 1") == [reports[1]]
    assert repr(reports) == "<Reports: 2 of case 0, case 1>"


def test_what_failed_is_said_and_raised_when_it_is_asked_for() -> None:
    assert made("completed").check().exit_code == 0
    reports = made("completed", "failed")
    assert reports.errors == ["case 1: it broke"]
    with pytest.raises(MigrationError, match="case 1: it broke") as raised:
        reports.check()
    assert (raised.value.exit_code, raised.value.report) == (1, reports[1])
    with pytest.raises(MigrationError) as without:
        made("completed", "none").check()
    assert without.value.report is None


def test_what_was_not_verified_or_is_missing_is_not_well() -> None:
    assert made("completed", interrupted=True).exit_code == 130
    document = SeriesDocument(runs=[report(verified=False)], table=[])
    assert Reports(document).exit_code == 3


def test_it_is_saved_and_loaded_again(tmp_path: Path) -> None:
    reports = made("completed", "failed")
    reports.save(tmp_path / "both.json")
    again = Reports.load(tmp_path / "both.json")
    assert (list(again), again.labels, again.exit_code) == (list(reports), reports.labels, 1)


def test_results_of_earlier_versions_are_loaded(tmp_path: Path) -> None:
    reports = Reports.load(SERIES)
    assert reports.labels == ["pre-copy", "stop-and-copy"]
    assert reports._repr_html_().count("<svg") == 2
    assert len(Reports.load(REPORTS[0])) == 1
    (tmp_path / "no.json").write_text(json.dumps({"schema_version": 1, "runs": [], "table": []}))
    with pytest.raises(UsageError, match="expected at least one"):
        Reports.load(tmp_path / "no.json")


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_have_a_row_a_report_and_a_row_a_case(library: str) -> None:
    pytest.importorskip(library, reason=f"{library} is not installed")
    reports = made("completed", "none")
    assert list(reports.frame(library)["label"]) == ["case 0"]  # type: ignore[arg-type]
    table = reports.table_frame(library)  # type: ignore[arg-type]
    assert list(table["outcome"]) == ["completed", "failed"]
    assert list(table["errors"]) == ["[]", '["it broke"]']
