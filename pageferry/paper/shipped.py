"""Results that come with this version: measured once, kept as data, read by `reproduce`.

`python -m scripts.ship_results` makes the files of what `reproduce` has written.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, TypeAdapter

from pageferry.paper.ablation import Ablation, effects
from pageferry.paper.locality.data import MapDocument, Place, places_of
from pageferry.paper.locality.sentences import claim_sentence, mechanism_sentence, path2_sentence
from pageferry.paper.shipped_file import shipped_text
from pageferry.runs.document import SheetDocument

MAP: Final = "map.json"
ABLATION: Final = "ablation.json"
TABLES: Final = "tables.json"


class TablesRun(BaseModel):
    """What a `reproduce` of the tables has measured, without its reports.

    Attributes:
        made: The day on which it was measured, ISO 8601.
        machine: What it was measured on.
        table: A row for each case, with the spread of its runs.
        cache_effect: Ratios of the I/O load, with the cache / without.
        sheets: The tables as they were printed.
        notes: What was printed below them.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    made: str
    machine: dict[str, str]
    table: tuple[dict[str, Any], ...]
    cache_effect: tuple[dict[str, Any], ...]
    sheets: tuple[SheetDocument, ...]
    notes: tuple[str, ...]

    @classmethod
    def of_document(cls, document: dict[str, Any]) -> Self:
        """Take what is kept from what `reproduce --json` has written.

        Args:
            document: The parsed JSON.

        Returns:
            All of it but the reports, and their places in the list of reports.

        Raises:
            ValueError: It is no such document.
        """
        found = cls.model_validate(document)
        rows = tuple({k: v for k, v in row.items() if k != "runs"} for row in found.table)
        return found.model_copy(update={"table": rows})


TABLE_RUNS: Final = TypeAdapter(tuple[TablesRun, ...])


@cache
def shipped_map() -> MapDocument:
    """Return the map."""
    return MapDocument.model_validate_json(shipped_text(MAP))


@cache
def shipped_ablation() -> Ablation:
    """Return what the combinations of the three mechanisms took."""
    return Ablation.model_validate_json(shipped_text(ABLATION))


@cache
def shipped_tables() -> tuple[TablesRun, ...]:
    """Return the paper's tables as they were measured, the fastest link first."""
    return TABLE_RUNS.validate_json(shipped_text(TABLES))


def three_sentences(places: list[Place], found: Ablation) -> list[str]:
    """Say where the claim holds, what each mechanism does, and what is wrong with path 2's stop.

    Args:
        places: That were measured.
        found: The ablation.

    Returns:
        Three paragraphs, computed from what is given.
    """
    return [
        claim_sentence(places),
        mechanism_sentence(effects(found)),
        path2_sentence(places),
    ]


def shipped_sentences() -> list[str]:
    """Say what the shipped map and the shipped ablation say."""
    return three_sentences(places_of(shipped_map().measured), shipped_ablation())
