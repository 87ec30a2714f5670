"""Pages of the API reference, before anything is built."""

from __future__ import annotations

import re

import pageferry
from pageferry.api import options
from scripts.docs_reference import GROUPS, OPTIONS, keywords, pages

ENTRIES = [entry for group in GROUPS for entry in group.entries]


def test_every_public_name_is_on_one_page() -> None:
    assert len(ENTRIES) == len(set(ENTRIES))
    assert {f"pageferry.{name}" for name in pageferry.__all__} <= set(ENTRIES)


def test_every_page_begins_with_its_title() -> None:
    for name, text in pages():
        assert text.startswith("# "), name


def test_every_keyword_has_a_row_with_its_meaning() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| `([^|]|\\\|)+` \| (.*) \|$", keywords(OPTIONS.read_text()), re.M
    )
    meanings = {name: meaning for name, _, meaning in rows}
    known = {
        name
        for each in (
            *(options.MigrateOptions, options.CompareOptions, options.PredictOptions),
            *(options.SimulateOptions, options.SweepOptions),
        )
        for name in each.__annotations__
    }
    assert known <= set(meanings)
    assert all(meanings.values())
