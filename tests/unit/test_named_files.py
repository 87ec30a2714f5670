"""Files and folders that the guides for developers name are there."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
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


def test_the_steps_of_the_walks_are_there() -> None:
    text = (PROJECT / "docs/architecture.md").read_text("utf-8")
    steps = re.findall(r"^\| `([a-z_/]+\.py)` \| `([\w.]+)` \|", text, re.MULTILINE)
    assert len(steps) > 30
    assert [f"{file}: {name}" for file, name in steps if not _has(PROJECT / file, name)] == []


def _has(file: Path, dotted: str) -> bool:
    """Whether the file defines it: a function, a class, or a method of one."""
    body: Sequence[ast.stmt] = ast.parse(file.read_text("utf-8")).body
    for name in dotted.split("."):
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        found = [each for each in body if isinstance(each, kinds) and each.name == name]
        if not found:
            return False
        body = found[0].body
    return True
