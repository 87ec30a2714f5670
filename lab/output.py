"""What `--json` writes of several migrations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from common.report import Report


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


def render_series(document: SeriesDocument, title: str, labels: Sequence[str]) -> str:
    """The HTML page of a series. labels: one for each of its runs. Raises `UsageError`."""
    from common.html import render

    sheets = [sheet.model_dump() for sheet in document.sheets]
    return render(document.runs, title=title, labels=labels, tables=sheets, notes=document.notes)
