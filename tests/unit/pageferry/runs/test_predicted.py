from __future__ import annotations

from pageferry.runs.predicted import predicted_sheet
from tests.support.plain_reports import report
from tests.support.predictions import prediction


def test_a_row_for_each_run_that_was_predicted_and_ended() -> None:
    runs = [report(prediction=prediction()), report(), report(prediction=prediction(taken=None))]
    sheet = predicted_sheet(runs, ["a", "b", "c"])
    assert sheet is not None
    row = ("a", "1,020", "1,000", "2.0 %", "90", "100", "-10 ms", "1.0 %")
    assert sheet.rows == (row,)
    assert len(sheet.columns) == len(row)


def test_no_table_where_nothing_was_predicted() -> None:
    assert predicted_sheet([report()], ["a"]) is None
