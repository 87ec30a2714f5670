"""Files and folders that the guides for developers name are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
NAMED = re.compile(r"`([a-z_]+(?:/[A-Za-z_.-]+)+/?)`")
MADE_BY_HAND = "NAME"  # stands for what is added


@pytest.mark.parametrize("guide", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_what_is_named_is_there(guide: str) -> None:
    named = NAMED.findall((PROJECT / guide).read_text("utf-8"))
    assert named
    missing = [each for each in named if MADE_BY_HAND not in each and not (PROJECT / each).exists()]
    assert missing == []


def test_modules_that_the_architecture_names_are_there() -> None:
    text = (PROJECT / "docs/architecture.md").read_text("utf-8")
    modules = re.findall(
        r"`((?:common|source_agent|dest_agent)(?:\.[a-z_]+)+)(?:\.[A-Z]\w*)?`", text
    )
    assert modules
    paths = [PROJECT / each.replace(".", "/") for each in modules]
    assert [p for p in paths if not (p.with_suffix(".py").exists() or p.is_dir())] == []
