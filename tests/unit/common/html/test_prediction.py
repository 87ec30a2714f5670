"""What a page says of a prediction."""

from __future__ import annotations

from pageferry.common.html import render_one
from pageferry.common.html.run_tables import predicted
from pageferry.common.html.sentences import prediction_sentence
from tests.support.every_report import completed
from tests.support.predictions import prediction as made


def test_how_true_it_was() -> None:
    report = completed(prediction=made())
    text = prediction_sentence(report)
    assert "looked at for 1.00 s: it dirtied 5 MB/s" in text
    assert "pre-copy was spoken for: it is over first" in text
    assert "+2.0 %" in text
    assert text in render_one(report)
    assert prediction_sentence(completed(prediction=made(taken=None))) in text


def test_every_strategy_has_a_row() -> None:
    table = predicted(completed(prediction=made()))
    assert table is not None
    assert table["rows"] == [
        ["pre-copy", "1.02 s", "90.00 ms", "1.01 MB", "3", "–"],
        ["lazy-copy", "500 ms", "2.00 ms", "at least 40 kB", "0", "–"],
    ]
    assert "What was predicted" in render_one(completed(prediction=made()))


def test_nothing_is_said_where_nothing_was_predicted() -> None:
    assert prediction_sentence(completed()) == ""
    assert predicted(completed()) is None
    assert "What was predicted" not in render_one(completed())


def test_a_report_may_say_anything() -> None:
    page = render_one(completed(prediction=made(why="<script>alert(1)</script>")))
    assert "<script>alert(1)" not in page
