"""`python -m scripts.ship_results`: what `reproduce` has written, as data of this version."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pageferry.paper.ablation import Ablation
from pageferry.paper.locality.data import MapDocument
from pageferry.paper.shipped import ABLATION, MAP, TABLE_RUNS, TABLES, TablesRun

FOLDER = Path(__file__).resolve().parents[1] / "pageferry/paper/data"


def _parsed(file: str) -> dict[str, Any]:
    return dict(json.loads(Path(file).read_text("utf-8")))


def map_text(file: str) -> str:
    """Return the map's data of what `reproduce --map` has left in its folder."""
    found = MapDocument.model_validate(_parsed(file))
    for row in found.measured:
        if row.verified < row.runs:
            raise ValueError(f"{file}: {row.point} {row.way}: a run was not verified")
    return found.to_json()


def ablation_text(file: str) -> str:
    """Return the ablation's data of what `reproduce --ablate --json` has written."""
    return Ablation.model_validate(_parsed(file)["ablation"]).model_dump_json(indent=1) + "\n"


def tables_text(files: list[str]) -> str:
    """Return the tables' data of what several `reproduce --json` have written."""
    runs = [TablesRun.of_document(_parsed(file)) for file in files]
    for each, run in zip(files, runs, strict=True):
        if not all(row["verified"] is True for row in run.table):
            raise ValueError(f"{each}: a run was not verified, or has failed")
    runs.sort(key=lambda run: -max(row["rate"] for row in run.table))
    return TABLE_RUNS.dump_json(tuple(runs), indent=1).decode() + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--map", help="FOLDER/locality-map.json of `reproduce --map FOLDER`")
    parser.add_argument("--ablation", help="what `reproduce --ablate --json` wrote")
    parser.add_argument("--tables", nargs="+", help="what `reproduce --json` wrote, each once")
    asked = parser.parse_args(arguments)
    try:
        texts = {
            MAP: asked.map and map_text(asked.map),
            ABLATION: asked.ablation and ablation_text(asked.ablation),
            TABLES: asked.tables and tables_text(asked.tables),
        }
    except (OSError, ValueError, KeyError, ValidationError) as error:
        print(f"ship_results: {error}", file=sys.stderr)
        return 2
    for name, text in texts.items():
        if text:
            (FOLDER / name).write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
