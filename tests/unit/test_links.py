"""Links of the guides to files and headings lead somewhere, as a code host shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.docs_links import PROJECT, anchors, links

GUIDES = sorted(
    path.relative_to(PROJECT).as_posix()
    for folder in (".", "docs", "examples", "findings")
    for path in (PROJECT / folder).glob("*.md")
)


def test_there_are_guides_with_links() -> None:
    assert {"README.md", "CONTRIBUTING.md", "docs/api.md", "examples/README.md"} <= set(GUIDES)
    assert sum(len(list(links((PROJECT / guide).read_text("utf-8")))) for guide in GUIDES) > 80


@pytest.mark.parametrize("guide", GUIDES)
def test_its_links_lead_somewhere(guide: str) -> None:
    file = PROJECT / guide
    broken = [
        f"{guide}:{link.line}: {link.path}#{link.anchor}"
        for link in links(file.read_text("utf-8"))
        if not _there((file.parent / link.path) if link.path else file, link.anchor)
    ]
    assert broken == []


def _there(target: Path, anchor: str) -> bool:
    """Whether there is such a file or folder within the project, with such a heading."""
    target = target.resolve()
    if not target.is_relative_to(PROJECT) or not target.exists():
        return False
    return not anchor or (target.suffix == ".md" and anchor in anchors(target.read_text("utf-8")))
