"""The JSON Schema of a report: what docs/ has of it, and that every report is valid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pageferry.common.report.published import report_schema, schema_text
from tests.support.every_report import completed, failed, full_report
from tests.support.old_reports import REPORTS, SERIES

jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema, of the dev extra")
PUBLISHED = Path(__file__).parents[4] / "docs" / "report.schema.json"


def validator() -> Any:
    kind = jsonschema.Draft202012Validator
    kind.check_schema(report_schema())
    return kind(report_schema())


def test_the_documents_have_it_as_it_is() -> None:
    wanted = "pageferry report --schema > docs/report.schema.json"
    assert PUBLISHED.read_text() == schema_text(), wanted


@pytest.mark.parametrize("report", [completed(), failed(), full_report()], ids=lambda r: r.outcome)
def test_what_is_written_is_valid(report: Any) -> None:
    validator().validate(json.loads(report.to_json()))


@pytest.mark.parametrize("file", REPORTS, ids=lambda file: file.stem)
def test_what_earlier_versions_wrote_is_valid(file: Path) -> None:
    validator().validate(json.loads(file.read_text()))


def test_every_run_of_an_earlier_series_is_valid() -> None:
    for run in json.loads(SERIES.read_text())["runs"]:
        validator().validate(run)


@pytest.mark.parametrize(
    "change", [{"speed": 1}, {"schema_version": 2}, {"rounds": [{}]}, {"outcome": "fine"}]
)
def test_what_is_no_report_is_not(change: dict[str, Any]) -> None:
    assert not validator().is_valid(json.loads(completed().to_json()) | change)
