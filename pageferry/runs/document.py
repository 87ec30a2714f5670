"""What `--json` writes of several migrations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from pageferry.common.report.schema import Report


class SheetDocument(BaseModel):
    """A table as it was printed. left: how many of its columns are words, the rest are figures."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    left: int = 1


class SeriesDocument(BaseModel):
    """runs: every report, failed ones too; a row of `table` points at its runs by index.

    interrupted: whether some runs are missing because the user ended the series. sheets, notes:
    what the command printed for people, which an HTML page of the document shows again.
    """

    schema_version: Literal[1] = 1
    runs: list[Report]
    table: list[dict[str, Any]]
    interrupted: bool = False
    sheets: list[SheetDocument] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)

    def to_json(self) -> str:
        """Indented JSON, one trailing newline."""
        return self.model_dump_json(indent=2) + "\n"


def render_series(
    document: SeriesDocument, title: str, labels: Sequence[str], cases: Sequence[str]
) -> str:
    """Make the HTML page of a series. labels, cases: one for each of its runs.

    Runs of one case are one bar of its pictures. Raises `UsageError`.
    """
    from pageferry.common.html import render

    sheets = [sheet.model_dump() for sheet in document.sheets]
    notes = document.notes
    return render(
        document.runs, title=title, labels=labels, cases=cases, tables=sheets, notes=notes
    )
