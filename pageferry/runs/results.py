"""Results that were written with `--json`, of one run or several: read, checked, labelled."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from pageferry.common.errors import UsageError
from pageferry.common.files.input_files import STDIN, read_file
from pageferry.common.report import reading
from pageferry.common.report.schema import Report
from pageferry.common.units import figures
from pageferry.runs.document import SeriesDocument, SheetDocument
from pageferry.runs.tables import NOTHING

_MOST_BYTES: Final = reading.MOST_BYTES


def read_result(file: Path) -> Report | SeriesDocument:
    """Read a report, or a series of them.

    Args:
        file: What `--json` has written; `-` is standard input.

    Returns:
        The report of one migration, or the document of several.

    Raises:
        UsageError: One line that names the file, the place in it, and what was expected.
    """
    return parse_result(read_file(file, _MOST_BYTES, stdin=True), file_label(file))


def file_label(file: Path) -> str:
    """Name a file for messages.

    Args:
        file: `-` is standard input.

    Returns:
        The name.
    """
    return "standard input" if str(file) == STDIN else str(file)


def parse_result(raw: bytes, file: str) -> Report | SeriesDocument:
    """Parse a report, or a series of them.

    Args:
        raw: JSON.
        file: Its name, for complaints.

    Returns:
        The report of one migration, or the document of several.

    Raises:
        UsageError: As in `read_result`.
    """
    data = reading.parse_document(raw, file)
    if not reading.is_series(data):
        return reading.check_report(data, file)
    fields = SeriesDocument.model_fields  # `reproduce` writes more fields than these
    document = reading.check_fields(
        file, SeriesDocument, {k: v for k, v in data.items() if k in fields}
    )
    if not document.runs and not document.table:
        raise UsageError(f"{file} has no runs: expected at least one")
    for place, run in enumerate(document.runs):
        reading.check_config(file, f"runs.{place}.config", run.config)
    return document


def labels_of(document: SeriesDocument) -> tuple[list[str], list[str]]:
    """Name each run, and the case that it is a run of, as its row of the table does.

    A run without a row is called by its strategy and its place, and is a case of its own.

    Args:
        document: Places in its table that are out of range are passed over.

    Returns:
        Labels and cases, one of each for every run.
    """
    labels = [f"{run.strategy}, run {place}" for place, run in enumerate(document.runs, 1)]
    cases = list(labels)
    for row in document.table:
        places = row.get("runs")
        label = row.get("label")
        if not isinstance(places, list) or not isinstance(label, str):
            continue
        known = [p for p in places if isinstance(p, int) and 0 <= p < len(labels)]
        for number, place in enumerate(known, 1):
            labels[place] = label if len(known) == 1 else f"{label}, run {number}"
            cases[place] = label
    return labels, cases


def plain_sheets(name: str, table: list[dict[str, Any]]) -> list[SheetDocument]:
    """Make the tables of a document that does not say how it was printed.

    Args:
        name: The title.
        table: The document's rows. Only columns without lists and objects are shown.

    Returns:
        One table, or none where no column is left.
    """
    columns = [
        key
        for key in dict.fromkeys(key for row in table for key in row)
        if not any(isinstance(row.get(key), (list, dict)) for row in table)
    ]
    if not columns:
        return []
    rows = [[_cell(row.get(column)) for column in columns] for row in table]
    headings = [column.replace("_", " ") for column in columns]
    return [SheetDocument(title=name, columns=headings, rows=rows)]


def _cell(value: object) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return figures(value, 4) if isinstance(value, float) else str(value)
