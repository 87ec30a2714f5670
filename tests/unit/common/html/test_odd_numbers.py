"""A report that a file says is one may have any number anywhere: a page all the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from pageferry.common.html import render, render_one
from pageferry.common.report.schema import Report
from tests.support.every_report import completed, full_report

ODD = (0, 1e308, float("nan"))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of every number; of a list, those of its first item."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from places(each, (*path, key))
    elif isinstance(value, list):
        for number, each in enumerate(value[:1]):
            yield from places(each, (*path, number))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path


def changed(document: Any, path: tuple[Any, ...], number: float) -> Report | None:
    """None where the schema refuses it."""
    copy = json.loads(document)
    inside = copy
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = number
    try:
        return Report.model_validate(copy)
    except ValidationError:
        return None


@pytest.mark.parametrize("odd", ODD)
def test_one_odd_number_of_one_run(odd: float) -> None:
    document = full_report().to_json()
    for path in places(json.loads(document)):
        report = changed(document, path, odd)
        if report is not None:
            try:
                render_one(report)
            except Exception as error:
                raise AssertionError(f"{path} = {odd}: {error!r}") from error


@pytest.mark.parametrize("odd", [*ODD, -1, float("inf"), 1e-300])
@pytest.mark.parametrize("name", ["downtime_ms", "total_time_ms", "bytes_on_wire"])
def test_one_odd_number_of_several(name: str, odd: float) -> None:
    report = changed(completed().to_json(), (name,), odd)
    if report is not None:
        render([report, completed()], title="t", labels=["a", "b"])
