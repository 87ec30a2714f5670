"""Frames of a report: columns and types, whichever library makes them."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

import pytest

from pageferry.common.errors import UsageError
from pageferry.common.report import frames
from pageferry.common.report.frames import Library
from pageferry.common.report.schema import EventReport, Report
from pageferry.common.report.sections.rounds import RoundReport
from tests.support.every_report import completed, full_report
from tests.support.old_reports import FOLDER


@pytest.fixture(params=["pandas", "polars"])
def library(request: pytest.FixtureRequest) -> Any:
    return pytest.importorskip(request.param, reason=f"{request.param} is not installed").__name__


def kinds(frame: Any) -> dict[str, str]:
    if hasattr(frame, "schema"):
        return {name: str(kind) for name, kind in frame.schema.items()}
    return {name: str(kind) for name, kind in frame.dtypes.items()}


def test_a_round_is_a_row_and_a_field_a_column(library: Library) -> None:
    report = Report.load(FOLDER / "pre-copy.json")
    frame = report.rounds_frame(library)
    assert list(frame.columns) == list(RoundReport.model_fields)
    assert list(frame["bytes"]) == [each.bytes for each in report.rounds]
    assert list(frame["kind"]) == [each.kind for each in report.rounds]
    assert kinds(frame)["bytes"] == "Int64"
    assert kinds(frame)["start_ms"].lower() == "float64"


def test_without_rows_the_columns_and_their_types_are_there(library: Library) -> None:
    full = full_report().rounds_frame(library)
    empty = completed(rounds=[]).rounds_frame(library)
    assert len(empty) == 0
    assert kinds(empty) == kinds(full)


def test_an_events_own_fields_are_columns(library: Library) -> None:
    report = completed()
    report.events = [
        EventReport.model_validate({"t_ms": 1, "agent": "source", "event": "a", **fields})
        for fields in ({"pages": 3}, {"rate": 1.5, "list": [1, 2]}, {"rate": 2})
    ]
    frame = report.events_frame(library)
    assert list(frame.columns) == ["t_ms", "agent", "event", "pages", "rate", "list"]
    assert kinds(frame)["pages"] == "Int64"
    assert kinds(frame)["rate"].lower() == "float64"
    assert frame["list"][1] == "[1, 2]"
    assert frame["pages"][0] == 3


def test_every_part_makes_a_frame(library: Library) -> None:
    report = Report.load(FOLDER / "post-copy.json")
    assert report.postcopy is not None
    assert report.postcopy.trace
    assert len(report.faults_frame(library)) == len(report.postcopy.trace)
    for name in ("decisions", "downtime", "timeline", "missing", "estimates"):
        assert len(getattr(report, f"{name}_frame")(library)) > 0, name
    assert len(full_report().fault_counts_frame(library)) > 0


def test_without_a_library_it_is_said_how_to_install_one(monkeypatch: pytest.MonkeyPatch) -> None:
    real = find_spec
    hidden = ("pandas", "polars")
    monkeypatch.setattr(frames, "find_spec", lambda name: None if name in hidden else real(name))
    for name in hidden:
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(UsageError, match=r"needs pandas or polars: .*install '?pandas"):
        completed().rounds_frame()


def test_one_that_is_imported_is_taken(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {"pandas", "polars"} - {library}:
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert type(completed().rounds_frame()).__module__.startswith(library)


def test_another_library_is_refused() -> None:
    with pytest.raises(UsageError, match="expected pandas or polars"):
        completed().rounds_frame("arrow")  # type: ignore[arg-type]
