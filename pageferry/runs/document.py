"""What `--json` writes of several migrations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, Field

from pageferry.common.report.schema import Report
from pageferry.runs.tables import Sheet

if TYPE_CHECKING:
    from pageferry.common.html.picture import Picture


class SheetDocument(BaseModel):
    """A table as it was printed.

    Attributes:
        title: What stands above it.
        columns: The headings.
        rows: Texts, one for each column.
        left: How many of its columns are words; the rest are figures.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]
    left: int = 1

    @classmethod
    def of(cls, sheets: Iterable[Sheet]) -> list[Self]:
        """Convert tables for a document.

        Args:
            sheets: The tables.

        Returns:
            One for each.
        """
        return [cls(**sheet.to_html()) for sheet in sheets]

    def to_sheet(self) -> Sheet:
        """Make the table that can be printed again."""
        return Sheet(self.title, tuple(self.columns), tuple(map(tuple, self.rows)), self.left)


class SeriesDocument(BaseModel):
    """Several migrations: their reports and their table.

    Attributes:
        schema_version: Of this document.
        runs: Every report, failed ones too.
        table: A row for each case; its `runs` are places in the list of reports.
        interrupted: Whether some runs are missing because the user ended the series.
        sheets: What the command printed for people, which an HTML page of the document shows again.
        notes: What it printed below, a sentence or more each.
    """

    schema_version: Literal[1] = 1
    runs: list[Report]
    table: list[dict[str, Any]]
    interrupted: bool = False
    sheets: list[SheetDocument] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)

    def to_json(self) -> str:
        """Write the document as JSON.

        Returns:
            Indented text with one trailing newline.
        """
        return self.model_dump_json(indent=2) + "\n"


def render_series(
    document: SeriesDocument,
    title: str,
    labels: Sequence[str],
    cases: Sequence[str],
    pictures: Sequence[Picture] = (),
) -> str:
    """Make the HTML page of a series.

    Args:
        document: The series.
        title: Of the page.
        labels: One for each run.
        cases: For each run, the label of its case: runs of one case are one bar of the pictures.
        pictures: Of all runs together, above everything else.

    Returns:
        The page, which needs no network.

    Raises:
        UsageError: A library that makes pages is missing.
    """
    from pageferry.common.html import render

    sheets = [sheet.model_dump() for sheet in document.sheets]
    notes = document.notes
    return render(
        document.runs,
        title=title,
        labels=labels,
        cases=cases,
        tables=sheets,
        notes=notes,
        pictures=pictures,
    )
