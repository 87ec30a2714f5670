"""What comes with this version: the map, the ablation and the tables, and `reproduce --shipped`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from pageferry.common.command_line.run import OutputOptions
from pageferry.common.errors import EXIT_OK
from pageferry.common.files.report_files import ReportFiles
from pageferry.paper import ablation
from pageferry.paper.locality.data import places_of, to_json
from pageferry.paper.locality.picture import map_pictures
from pageferry.paper.locality.programs import ProgramsDocument, shipped_programs
from pageferry.paper.locality.view import ablation_sheets, document_sheets, map_notes, program_sheet
from pageferry.paper.shipped import (
    TablesRun,
    shipped_ablation,
    shipped_map,
    shipped_sentences,
    shipped_tables,
)
from pageferry.runs import tables
from pageferry.runs.tables import Sheet


def shipped_map_lines() -> list[str]:
    """Say how the shipped map was made, and what it says, in three sentences."""
    return [*map_notes(shipped_map()), *shipped_sentences()]


def shipped_map_document() -> dict[str, Any]:
    """Convert the shipped map for programs: when, on what, and its measured places."""
    found = shipped_map()
    return {"made": found.made, "machine": found.machine, "places": to_json(found.places)}


class ShippedResult(BaseModel):
    """What `reproduce --shipped --json` writes.

    Attributes:
        schema_version: Of this document.
        map: When and on what the map was measured, and its measured places.
        ablation: The values of all combinations of mechanisms, one for each seed.
        effects: What single switches, pairs and all three save, by figure.
        tables: The paper's tables as they were measured, a part for each run of `reproduce`.
        programs: What real programs and guests write within windows.
        sentences: What map and ablation say.
    """

    schema_version: int = 1
    map: dict[str, Any]
    ablation: dict[str, Any]
    effects: dict[str, Any]
    tables: list[TablesRun]
    programs: ProgramsDocument
    sentences: list[str]


def reproduce_shipped(output: OutputOptions) -> int:
    """Print the results that come with this version; nothing is run.

    Args:
        output: Where they go.

    Returns:
        0.

    Raises:
        UsageError: A file can't be written.
    """
    effects = ablation.effects(shipped_ablation())
    with ReportFiles(output) as files:
        sheets = [
            *_table_sheets(),
            *ablation_sheets(shipped_ablation(), effects),
            program_sheet(places_of(shipped_map().simulated), shipped_programs().places),
        ]
        map_sheets = document_sheets(shipped_map(), whole=True)
        notes = [*_table_notes(), *ablation.notes(shipped_ablation())]
        document = ShippedResult(
            map=shipped_map_document(),
            ablation=shipped_ablation().model_dump(mode="json"),
            effects=ablation.to_json(effects),
            tables=list(shipped_tables()),
            programs=shipped_programs(),
            sentences=shipped_sentences(),
        )
        files.write(
            lambda: document.model_dump_json(indent=2) + "\n",
            lambda: _page([*map_sheets, *sheets], [*shipped_map_lines(), *notes]),
        )
        if output.json_file != "-":
            tables.print_sheets(sheets, notes=notes)
            tables.print_sheets(map_sheets, lines=shipped_map_lines())
    return EXIT_OK


def _page(sheets: Sequence[Sheet], notes: Sequence[str]) -> str:
    from pageferry.common.html import render

    return render(
        [],
        title="The paper, measured",
        labels=[],
        tables=[sheet.to_html() for sheet in sheets],
        notes=notes,
        pictures=map_pictures(shipped_map()),
    )


def _table_sheets() -> list[Sheet]:
    return [each.to_sheet() for run in shipped_tables() for each in run.sheets]


def _table_notes() -> list[str]:
    """List the notes of all runs, each once."""
    return list(dict.fromkeys(note for run in shipped_tables() for note in run.notes))
