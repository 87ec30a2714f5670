"""docs/paper-results.md is what the shipped data says."""

from __future__ import annotations

from scripts.docs_results import PAGE, page


def test_the_page_is_made_of_the_data() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m scripts.docs_results"
