"""`python -m scripts.docs_results [--pictures]`: docs/paper-results.md, of the shipped results."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pageferry.paper import ablation
from pageferry.paper.locality.data import places_of
from pageferry.paper.locality.picture import map_pictures
from pageferry.paper.locality.programs import shipped_programs
from pageferry.paper.locality.view import ablation_sheets, document_sheets, map_notes, program_sheet
from pageferry.paper.shipped import (
    shipped_ablation,
    shipped_map,
    shipped_sentences,
    shipped_tables,
)
from pageferry.runs.picture_files import write_pictures
from pageferry.runs.tables import Sheet
from scripts import validate_cache_aware
from scripts.docs_workloads import table as markdown_table

CACHE_AWARE = Path(__file__).resolve().parents[1] / "pageferry/paper/data/cache_aware.json"
IMAGES = Path(__file__).resolve().parents[1] / "docs/images"
PAGE = Path(__file__).resolve().parents[1] / "docs/paper-results.md"

INTRODUCTION = """\
# The paper, measured: results

<!-- Made by `python -m scripts.docs_results` of pageferry/paper/data/: not to be changed here. -->

What `pageferry reproduce` has measured ([how](reproduction.md)), as it comes with this version.
`pageferry reproduce --shipped` prints the same, `--html` draws it. As data:
[map](../pageferry/paper/data/map.json), [ablation](../pageferry/paper/data/ablation.json),
[tables](../pageferry/paper/data/tables.json), [programs](../pageferry/paper/data/programs.json).

![The map: where the cache pays](images/map.png)

The paper claims a ratio of 0.4. What is true of it, computed from the map and the ablation:
"""


def table(sheet: Sheet) -> str:
    """Return a table of Markdown; several lines of a cell stand side by side."""
    rows = [[_cell(cell) for cell in row] for row in sheet.rows]
    return markdown_table(sheet.columns, rows, "l" * sheet.left + "r" * len(sheet.columns))


def _cell(text: str) -> str:
    first, *rest = text.split("\n")
    said = first if not rest else f"{first} ({', '.join(rest)})"
    return said.replace("*", "\\*")


def machine(found: Mapping[str, str], made: str) -> str:
    """Return when and on what something was measured, as a sentence."""
    versions = ", ".join(f"{name} {found[name]}" for name in ("pageferry", "python", "numba"))
    return (
        f"Measured on {made}: {found['processor']}, {found['cores']} cores, {found['kernel']},"
        f" {versions}."
    )


def cache_aware() -> list[str]:
    """Return the section about cache-aware on real memory."""
    document = json.loads(CACHE_AWARE.read_text("utf-8"))
    found = validate_cache_aware.from_json(document)
    kept = sum(each.missed is None for each in found)
    runs = validate_cache_aware.RUNS
    return [
        "\n## cache-aware on real memory\n",
        f"{len(found)} points that were named before the first of them was measured, medians of"
        f" {runs} runs by each strategy, all verified (`python -m scripts.validate_cache_aware"
        f" FOLDER`, [data](../pageferry/paper/data/cache_aware.json)). What [cache-aware"
        f" promises](strategies.md#cache-aware) was kept at {kept} of them, within 5 % or 2 ms.\n",
        machine(document["machine"], document["made"]) + "\n",
        table(validate_cache_aware.sheet(found)).rstrip(),
    ]


def page() -> str:
    parts = [INTRODUCTION]
    parts += [f"{number}. {said}" for number, said in enumerate(shipped_sentences(), 1)]
    parts += ["\n## The map\n", *map_notes(shipped_map())]
    for sheet in document_sheets(shipped_map(), whole=True):
        parts += [f"\n### {sheet.title}\n", table(sheet).rstrip()]
    found = shipped_ablation()
    parts += ["\n## What each mechanism does\n", machine(found.machine, found.made)]
    for sheet in ablation_sheets(found, ablation.effects(found)):
        parts += [f"\n### {sheet.title}\n", table(sheet).rstrip()]
    parts += ["", *ablation.notes(found)]
    known = shipped_programs()
    programs = program_sheet(places_of(shipped_map().simulated), known.places)
    parts += [
        "\n## Real programs and guests\n",
        f"Programs under {known.valgrind}, traced on {known.made} by `python -m"
        " scripts.trace_programs`; how fast they write is not known, so that each is at every dirty"
        f" rate. Guests: {known.about}\n",
        "![Real programs and guests on a panel of the map](images/programs.png)\n",
        table(programs).rstrip(),
    ]
    parts += cache_aware()
    parts += ["\n## The paper's tables\n"]
    for run in shipped_tables():
        parts.append(machine(run.machine, run.made))
        for each in run.sheets:
            parts += [f"\n### {each.title}\n", table(each.to_sheet())]
    notes = dict.fromkeys(note for run in shipped_tables() for note in run.notes)
    parts += [f"{number}. {note}" for number, note in enumerate(notes, 1)]
    return "\n".join(parts).rstrip() + "\n"


def draw() -> None:
    """Draw the page's pictures anew; that needs kaleido and a browser."""
    with tempfile.TemporaryDirectory() as folder:
        named = [(picture.key, picture) for picture in map_pictures(shipped_map())]
        for file in write_pictures(Path(folder), named):
            key = next(key for key, _ in named if file.name.startswith(key))
            if file.suffix == ".png":
                shutil.copyfile(file, IMAGES / f"{key}.png")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    if "--pictures" in sys.argv[1:]:
        draw()
