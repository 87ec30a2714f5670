"""What a notebook shows: a table and a drawing, in which nothing of a report is markup."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from pageferry.common.html.notebook import report_fragment, reports_fragment, speed_drawing
from pageferry.common.html.palette import LIGHT
from pageferry.common.report.schema import Report
from pageferry.common.report.sections.guest import TimelineSample
from tests.support.every_report import completed
from tests.support.old_reports import FOLDER, REPORTS


@pytest.mark.parametrize("file", REPORTS, ids=lambda file: file.stem)
def test_the_drawing_is_well_formed(file: str) -> None:
    drawing = speed_drawing(Report.load(file))
    assert ElementTree.fromstring(drawing).tag == "svg"  # noqa: S314 - we have just made it
    assert "nan" not in drawing


def test_both_hosts_and_the_downtime_are_drawn() -> None:
    drawing = speed_drawing(Report.load(FOLDER / "pre-copy.json"))
    for colour in (LIGHT["source"], LIGHT["dest"]):
        assert drawing.count(f'stroke="{colour}"') == 1
    assert "<title>downtime</title>" in drawing


def test_without_samples_there_is_the_table_alone() -> None:
    report = completed()
    report.guest.timeline = [
        TimelineSample(t_ms=0, steps_per_s=float("inf"), dirty_pages_per_s=None, where="source")
    ]
    assert "<svg" not in report_fragment(report)
    assert "downtime" in report_fragment(report)


def test_what_a_report_says_is_text() -> None:
    report = completed()
    report.config["workload"] = "<script>alert(1)</script>"
    fragment = report_fragment(report) + reports_fragment(
        [("<b>", ["<i>"], [["a\n<u>"]])], ["<script>"], [("<script>", report)]
    )
    for tag in ("<script>", "<i>", "<u>"):
        assert tag not in fragment
    assert "a<br>&lt;u&gt;" in fragment


def test_of_many_runs_some_are_drawn_and_that_is_said() -> None:
    report = Report.load(FOLDER / "pre-copy.json")
    fragment = reports_fragment([], [], [(f"run {n}", report) for n in range(15)])
    assert fragment.count("<svg") == 12
    assert "3 more runs are not drawn" in fragment
