"""How figures are written, and that a table fits its terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pageferry.runs import tables
from pageferry.runs.rows import Spread
from pageferry.runs.tables import Sheet

SHEET = Sheet(
    "a title",
    ("strategy", "downtime ms", "total ms", "verified"),
    (("three-path", "554", "19,989", "yes"), ("pre-copy [x]", "1,384", "49,973", "yes")),
)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123, "0.0123"), (3.789, "3.79"), (41.25, "41.2"), (99.6, "100"), (19_989.2, "19,989")],
)
def test_milliseconds_have_three_digits_or_more(value: float, text: str) -> None:
    assert tables.three_digits(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.4, "0.4"), (0.00387, "0.00387"), (12.34, "12.3"), (5e4, "50,000")],
)
def test_a_factor_is_written_without_an_exponent(value: float | None, text: str) -> None:
    assert tables.factor(value) == text


def test_a_spread_names_its_unit_once() -> None:
    figures = Spread(2.0, 1.0, 3.0)
    assert tables.spread_text(figures, lambda v: f"{v:g} MB", several=True) == "2 MB\n1–3 MB"
    assert tables.spread_text(figures, lambda v: f"{v:g}", several=True) == "2\n1–3"
    assert tables.spread_text(figures, lambda v: f"{v:g} MB", several=False) == "2 MB"
    units = {1.0: "1 kB", 2.0: "2 kB", 3.0: "3 MB"}
    assert tables.spread_text(figures, units.__getitem__, several=True) == "2 kB\n1 kB–3 MB"


def printed(width: int) -> list[str]:
    out = io.StringIO()
    SHEET.print(Console(file=out, width=width))
    return [" ".join(line.split()) for line in out.getvalue().splitlines()]


def test_upright_where_there_is_room() -> None:
    assert "pre-copy [x] 1,384 49,973 yes" in printed(80)


def test_on_its_side_where_there_is_not() -> None:
    lines = printed(46)
    assert "strategy three-path pre-copy [x]" in lines
    assert "downtime ms 554 1,384" in lines


def test_html_has_the_same_cells() -> None:
    out = SHEET.to_html()
    assert out == {
        "title": "a title",
        "columns": ["strategy", "downtime ms", "total ms", "verified"],
        "rows": [list(row) for row in SHEET.rows],
        "left": SHEET.left,
    }
